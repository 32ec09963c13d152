"""What a check of the doctor is told, and what it says."""

from botocore.config import Config

FUNCTIONS = {"webhook": "WebhookFunctionName", "dispatch": "DispatchFunctionName", "reconcile": "ReconcileFunctionName", "author": "AuthorFunctionName",
             "redeliver": "RedeliverFunctionName"}
# Those that have the code of another, and write into its log.
SAME_CODE = {"redeliver": "reconcile"}
LIMITS = Config(connect_timeout=5, read_timeout=20, retries={"max_attempts": 2})
FAMILY = "gha-jit-self-hosted-fargate-runner"


def check(id_, status, what, found="", fix=""):
    return {"id": id_, "status": status, "what": what, "found": found, "fix": fix}


class Absent(Exception):
    """The stack was given what it would have made otherwise (docs/install.md, "You followed the articles")."""


class Outputs(dict):
    def __missing__(self, name):
        raise Absent(name)


class Seen:
    """The stack under examination."""

    def __init__(self, stack, found_outputs, found_parameters):
        self.stack, self.outputs, self.parameters = stack, Outputs(found_outputs), found_parameters

    def client(self, service):
        return self.stack.session.client(service, config=LIMITS)

    def functions(self):
        """Those that the stack has: not all stacks have all, and a release before had fewer."""
        return [name for name, output in FUNCTIONS.items() if output in self.outputs]

    def function(self, name):
        """What Lambda knows of one of the functions."""
        return self.client("lambda").get_function_configuration(FunctionName=self.outputs[FUNCTIONS[name]])

    def resources(self, kind):
        """Those that the stack has made: logical name -> physical id."""
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.stack.name)
        return {it["LogicalResourceId"]: it["PhysicalResourceId"] for page in pages for it in page["StackResourceSummaries"]
                if it["ResourceType"] == kind and not it["ResourceStatus"].startswith("DELETE_")}

    def tells_authors(self):
        """Whether the author has anything to do."""
        return self.parameters.get("RerunInterrupted", "1") != "0" or self.parameters.get("CheckRuns") == "true"

    def variables(self):
        """What the dispatch function is told."""
        return self.function("dispatch").get("Environment", {}).get("Variables", {})

    def credentials(self):
        """What the secrets with GitHub's credentials hold: there may be several."""
        return [self.stack.read_secret(arn).strip() for arn in self.outputs["GitHubSecretArn"].split(",")]

    def container(self):
        """The container that is the runner."""
        return self.parameters.get("ContainerName") or "runner"

    def families(self):
        """Each family of task definitions, and the architecture that it should be for."""
        family = self.parameters.get("TaskDefinitionFamily", FAMILY)
        arm64 = self.parameters.get("EnableArm64") == "true"
        return [(family, "X86_64")] + ([(f"{family}-arm64", "ARM64")] if arm64 else [])

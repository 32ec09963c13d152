"""cfn-lint on what CloudFormation gets to see: template.yaml after the Serverless transform, each combination with its
conditions decided, in every Region where it can be deployed. What `make lint` runs."""

import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile

from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from cfnlint.helpers import REGIONS
from samtranslator.translator.managed_policy_translator import ManagedPolicyLoader
from samtranslator.translator.transform import transform

from policies import NOTHING, Stack
from test_policies import TEMPLATE, THERE, TOKEN

# Metrics of its own, which it misses.
logging.getLogger("samtranslator").setLevel(logging.ERROR)
ARN = "arn:aws:{}:eu-west-1:111122223333:{}"
GIVEN_NETWORK = {"SubnetIds": "subnet-0123456789abcdef0", "SecurityGroupIds": "sg-0123456789abcdef0", "AssignPublicIp": "DISABLED"}
# Each condition holds in one of them and in another it does not.
COMBINATIONS = {
    "as it comes": {},
    "an App's secret of one's own": {"GitHubSecretArn": TOKEN},
    "container-minted": {"Organization": "acme", "Mode": "container-minted"},
    "HTTP API": {"FrontDoor": "http-api"},
    "everything": {
        "GitHubSecretArn": TOKEN, "FrontDoor": "http-api", "EnableArm64": "true", "WarmPoolSize": "2",
        "RunnerImage": "example.com/runner:1", "RunnerLogClass": "INFREQUENT_ACCESS", "CheckRuns": "true",
        "TaskPolicyArns": "arn:aws:iam::aws:policy/ReadOnlyAccess", "RunnerGroupId": "7",
        "EventBusPutterArns": "arn:aws:iam::111122223333:role/putter", "QueueOperatorArns": "arn:aws:iam::111122223333:role/operator",
        "PermissionsBoundaryArn": "arn:aws:iam::111122223333:policy/boundary", "WebhookReservedConcurrency": "5",
        "FunctionSubnetIds": "subnet-0123456789abcdef0", "FunctionSecurityGroupIds": "sg-0123456789abcdef0",
        "SecretKmsKeyArn": "arn:aws:kms:eu-west-1:111122223333:key/0123", "RepositoryCredentialsArn": TOKEN,
        "AlarmTopicArn": ARN.format("sns", "page"), "TicketTopicArn": ARN.format("sns", "ticket"), **GIVEN_NETWORK,
    },
    "runner classes": {
        "GitHubSecretArn": TOKEN, "FrontDoor": "http-api", "RunnerClasses": "s3://acme-settings/classes.json",
        "PassRoleArns": "arn:aws:iam::111122223333:role/gpu"},
    "image pipeline": {"GitHubSecretArn": TOKEN, "FrontDoor": "http-api", "EnableImagePipeline": "true"},
    "Docker class": {"FrontDoor": "http-api", "EnableDockerClass": "true", "PermissionsBoundaryArn": ARN.format("iam", "policy/boundary"),
                     "DockerImage": "111122223333.dkr.ecr.eu-west-1.amazonaws.com/docker:dind", **GIVEN_NETWORK},
    "a budget": {"GitHubSecretArn": TOKEN, "FrontDoor": "http-api", "MonthlyBudget": "100", "TicketTopicArn": ARN.format("sns", "ticket")},
    "container-minted, what there is": {
        "Mode": "container-minted", "AccessTokenSecretArn": TOKEN, "RunnerImage": "example.com/runner:1", "Organization": "acme", **GIVEN_NETWORK},
    "what the articles made": {
        "Mode": "container-minted", "Organization": "acme", "WebhookSecretArn": TOKEN, "EnableArm64": "true", **THERE, **GIVEN_NETWORK},
    "dispatch alone": {"GitHubSecretArn": TOKEN, "FrontDoor": "none", "EnableReconcile": "false", **THERE, **GIVEN_NETWORK},
    "no webhook": {"FrontDoor": "none", "EventBusPutterArns": "arn:aws:iam::111122223333:role/putter"},
    "any owner, a security group to make": {
        "GitHubSecretArn": TOKEN, "Organization": "*", "RunnerScope": "repo", "SubnetIds": "subnet-0123456789abcdef0",
        "VpcId": "vpc-0123456789abcdef0"},
}


def decided(value, stack):
    """The same with every condition decided; references stay."""
    if isinstance(value, dict):
        if value.keys() == {"Fn::If"}:
            condition, yes, no = value["Fn::If"]
            return decided(yes if stack.holds(condition) else no, stack)
        if value == {"Ref": "AWS::NoValue"}:
            return NOTHING
        parts = {key: decided(part, stack) for key, part in value.items()}
        return {key: part for key, part in parts.items() if part is not NOTHING}
    if isinstance(value, list):
        return [part for part in (decided(part, stack) for part in value) if part is not NOTHING]
    return value


def transformed(parameters):
    """What is deployed with those parameters."""
    stack = Stack(TEMPLATE, **parameters)
    template = {key: part for key, part in stack.template.items() if key not in ("Conditions", "Rules")}
    template["Parameters"] = {name: it | ({"Default": parameters[name]} if name in parameters else {})
                              for name, it in template["Parameters"].items()}
    for section in ("Resources", "Outputs"):
        template[section] = {name: decided({key: part for key, part in it.items() if key != "Condition"}, stack)
                             for name, it in template[section].items()
                             if "Condition" not in it or stack.holds(it["Condition"])}
    for resource in template["Resources"].values():
        for uri in {"CodeUri", "ContentUri"} & {"AWS::Serverless::Function": {"CodeUri"}, "AWS::Serverless::LayerVersion":
                                               {"ContentUri"}}.get(resource["Type"], set()):
            resource["Properties"][uri] = "s3://bucket/key.zip"
    function = {key: it for key, it in template["Globals"]["Function"].items() if key != "CodeUri"}
    template["Globals"] = {"Function": decided(function, stack)}
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    return transform(template, {}, ManagedPolicyLoader(None))


def missing(template):
    """Region -> the resource types that it does not have."""
    types = {resource["Type"] for resource in template["Resources"].values()}
    lacks = {region: types - set(PROVIDER_SCHEMA_MANAGER.get_resource_types(region)) for region in REGIONS}
    return {region: types for region, types in lacks.items() if types}


def main():
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name, parameters in COMBINATIONS.items():
            template = transformed(parameters)
            path = pathlib.Path(folder) / f"{name}.json"
            path.write_text(json.dumps(template, indent=1))
            regions = [region for region in REGIONS if region not in missing(template)]
            # A parameter that this combination does not use is none to find fault with.
            command = ["cfn-lint", "--ignore-checks", "W2001", "--regions", *regions, "--template", str(path)]
            failed |= subprocess.run(command).returncode != 0
            print(f"{name}: {len(template['Resources'])} resources, {len(regions)} of {len(REGIONS)} Regions", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()

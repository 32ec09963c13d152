"""A stack on the local AWS, deployed as `make deploy` does it, but for what SAM does: the template is sent as it is."""

import json
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "ops"), str(ROOT / "demo")]

import deploy as deploying  # noqa: E402
import stack as stacks  # noqa: E402
from botocore.exceptions import ClientError  # noqa: E402
from local_aws import LocalAws, begin, packaged_template, wait_until  # noqa: E402

STACK = "runners"


def nobody(name, *_):
    raise AssertionError(f"{name} was asked for")


class LocalStack(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        begin()
        cls.aws = cls.enterClassContext(LocalAws())
        cls.client = staticmethod(cls.aws.client)
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.client("secretsmanager").create_secret(Name="github", SecretString="{}")
        s3 = cls.client("s3")
        s3.create_bucket(Bucket="code")

        def upload(name, zipped):
            s3.put_object(Bucket="code", Key=f"{name}.zip", Body=zipped)
            return f"s3://code/{name}.zip"

        s3.put_object(Bucket="code", Key="template.json", Body=json.dumps(packaged_template(upload)))

    def send(self, stack, parameters, architecture, tags):
        """What `sam deploy` does with those parameters."""
        self.sent.append(deploying.command(stack, parameters, architecture, "packaged.yaml", tags))
        self.architecture = architecture
        stacks_, now = self.client("cloudformation"), stacks.find(self.client, stack)
        known = stacks.parameters(now) if now else {}
        given = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
        given += [{"ParameterKey": name, "UsePreviousValue": True} for name in known if name not in parameters]
        change = stacks_.update_stack if now else stacks_.create_stack
        try:
            change(StackName=stack, TemplateURL=f"{self.aws.endpoint}/code/template.json", Parameters=given,
                   Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
                   Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"])
        except ClientError as error:
            self.assertIn("No updates", str(error))
            self.assertIn("--no-fail-on-empty-changeset", self.sent[-1])
        wait_until(stack, lambda: not self.status(stack).endswith("IN_PROGRESS"), 120)
        self.assertIn(self.status(stack), ("CREATE_COMPLETE", "UPDATE_COMPLETE"), stacks.why_failed(self.client, stack))
        self.aws.repair_mappings()

    def status(self, stack):
        return stacks.find(self.client, stack)["StackStatus"]

    def deploy(self, given=None, ask=nobody, stack=STACK, tags=None):
        self.sent = []
        return list(deploying.deploy(self.client, stack, given or {}, ask, self.send, self.folder, lambda _: None, tags))

    def variables(self, function):
        name = stacks.outputs(stacks.find(self.client, STACK))[function]
        return self.client("lambda").get_function_configuration(FunctionName=name)["Environment"]["Variables"]

    def concurrency(self, function):
        name = stacks.outputs(stacks.find(self.client, STACK))[function]
        return self.client("lambda").get_function_concurrency(FunctionName=name).get("ReservedConcurrentExecutions")

    def start_task(self):
        of_stack = stacks.outputs(stacks.find(self.client, STACK))
        started = self.client("ecs").run_task(cluster=of_stack["ClusterName"], taskDefinition=of_stack["TaskDefinitionArn"])
        return of_stack["ClusterName"], started["tasks"][0]["taskArn"]

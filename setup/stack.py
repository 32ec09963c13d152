"""The AWS side of setup: who and where we are, the stack, its secrets and functions. Uses your credentials as the AWS CLI
would."""

import json
import os
import pathlib
import subprocess
import tempfile
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

ROOT = pathlib.Path(__file__).parents[1]
# "L-3032A538: Fargate On-Demand vCPU resource count".
FARGATE_VCPUS = "L-3032A538"
# "L-36FBB829: Fargate Spot vCPU resource count".
FARGATE_SPOT_VCPUS = "L-36FBB829"
PAUSE = 2


class Failed(Exception):
    """A sentence, and the way on."""


def why(error):
    """What AWS says is wrong, without the request."""
    if isinstance(error, ClientError):
        return f"{error.response['Error'].get('Code')}: {error.response['Error'].get('Message')}"
    return str(error)


class Stack:
    def __init__(self, name, session=None):
        self.name = name
        self.session = session or boto3.Session()
        if not self.session.region_name:
            raise Failed("no Region is set; way on: export AWS_REGION=eu-west-1 (or the one that you want), and again")

    def client(self, service, **more):
        return self.session.client(service, **more)

    def identity(self):
        try:
            return self.client("sts").get_caller_identity()
        except (BotoCoreError, ClientError) as error:
            raise Failed(f"AWS does not know who you are ({why(error)}); way on: aws sso login, or set AWS_PROFILE, "
                         "and again") from None

    def fargate_vcpus(self):
        """The account's quota; None: we may not look."""
        try:
            quotas = self.client("service-quotas", config=Config(read_timeout=10, retries={"max_attempts": 1}))
            quota = quotas.get_service_quota(ServiceCode="fargate", QuotaCode=FARGATE_VCPUS)
            return quota["Quota"]["Value"]
        except (BotoCoreError, ClientError):
            return None

    # -- The stack -----------------------------------------------------------------------------------------

    def describe(self):
        """What CloudFormation knows of it; None: there is none."""
        try:
            return self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in why(error):
                return None
            raise Failed(f"the stack {self.name} cannot be looked at ({why(error)}); way on: credentials that may "
                         "cloudformation:DescribeStacks") from None

    def settled(self, say):
        """The stack once nothing is being done to it."""
        said = False
        while (found := self.describe()) and found["StackStatus"].endswith("_IN_PROGRESS"):
            if not said:
                say(f"somebody is at the stack ({found['StackStatus']}); waiting until that is over")
                said = True
            time.sleep(PAUSE)
        return found

    def deploy(self, parameters, say):
        """Deploys the template, one line a resource; the stack as it is then."""
        began = time.time()
        with tempfile.NamedTemporaryFile("w+", prefix="gha-fargate-runners-", suffix=".log") as log:
            process = subprocess.Popen(deploy_command(self.name, parameters), stdout=log, stderr=subprocess.STDOUT,
                                       stdin=subprocess.DEVNULL, cwd=ROOT,
                                       env={**os.environ, "AWS_REGION": self.session.region_name})
            try:
                shown = set()
                while process.poll() is None:
                    self._show_events(began, shown, say)
                    time.sleep(PAUSE / 2)
            except BaseException:
                process.terminate()
                raise
            self._show_events(began, shown, say)
            found = self.settled(say)
            if process.returncode or not is_usable(found):
                log.seek(0)
                end = "".join(log.readlines()[-15:])
                raise Failed(self.unusable(found) or f"the deployment failed:\n{end}\nway on: mend that, and again")
        return found

    def events(self):
        try:
            return self.client("cloudformation").describe_stack_events(StackName=self.name)["StackEvents"]
        except (BotoCoreError, ClientError):
            return []  # there is no stack yet

    def _show_events(self, began, shown, say):
        for event in reversed(self.events()):
            if event["EventId"] in shown or event["Timestamp"].timestamp() < began - 5:
                continue
            shown.add(event["EventId"])
            status = event.get("ResourceStatus", "")
            if status.endswith(("_COMPLETE", "_FAILED")):
                say(f"  {status.lower().replace('_', ' ')}: {event['LogicalResourceId']}"
                    + (f" ({event['ResourceStatusReason']})" if status.endswith("_FAILED") else ""))

    def unusable(self, found):
        """Why this stack cannot be gone on with, and the way on; None: it can."""
        if is_usable(found):
            return None
        if found is None:
            return None
        status = found["StackStatus"]
        failures = [f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
                    for event in self.events() if event.get("ResourceStatus", "").endswith("_FAILED")
                    and "cancelled" not in event.get("ResourceStatusReason", "")]
        because = f" because of {failures[-1]}" if failures else ""
        if status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"):
            return (f"the stack {self.name} is in {status}{because}; it can only be deleted; way on: aws cloudformation "
                    f"delete-stack --stack-name {self.name} --region {self.session.region_name}, mend that, and again")
        return (f"the stack {self.name} is in {status}{because}; way on: aws cloudformation continue-update-rollback "
                f"--stack-name {self.name} --region {self.session.region_name}, and again")

    # -- What is in it -------------------------------------------------------------------------------------

    def read_secret(self, arn):
        try:
            return self.client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]
        except (BotoCoreError, ClientError) as error:
            raise Failed(f"the secret {arn} cannot be read ({why(error)}); way on: credentials that may "
                         "secretsmanager:GetSecretValue, and again") from None

    def write_secret(self, arn, text):
        self.client("secretsmanager").put_secret_value(SecretId=arn, SecretString=text)

    def invoke(self, function, event):
        """The function's answer; Failed when it did not answer with one."""
        try:
            answer = self.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event).encode())
            payload = json.loads(answer["Payload"].read())
        except (BotoCoreError, ClientError, ValueError) as error:
            raise Failed(f"{function} cannot be asked ({why(error)})") from None
        if answer.get("FunctionError"):
            raise Failed(f"{function} answers with an error: {str(payload.get('errorMessage'))[:200]}")
        return payload

    def tasks(self, cluster):
        """Runners' tasks that have not ended."""
        ecs = self.client("ecs")
        arns = ecs.list_tasks(cluster=cluster, desiredStatus="RUNNING")["taskArns"]
        return ecs.describe_tasks(cluster=cluster, tasks=arns[:100], include=["TAGS"])["tasks"] if arns else []


def is_usable(found):
    return found is not None and found["StackStatus"] in (
        "CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE")


def outputs(found):
    return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}


def parameters(found):
    return {parameter["ParameterKey"]: parameter.get("ParameterValue", "") for parameter in found.get("Parameters", [])}


def deploy_command(name, parameters):
    """What `make deploy` does; without a terminal it asks nothing."""
    overrides = " ".join(f"{key}={value}" for key, value in parameters.items())
    return ["make", "--no-print-directory", "deploy", f"STACK={name}", f"PARAMETERS={overrides}"]

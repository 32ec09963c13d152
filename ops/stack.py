"""A stack in your account, as `make setup`, `make doctor`, `make deploy` and the scripts beside this one see it. They use your
AWS credentials, as the AWS CLI would."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError

ROOT = Path(__file__).resolve().parents[1]
USABLE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE")
# What can only be deleted.
DEAD = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")
# "L-3032A538: Fargate On-Demand vCPU resource count".
FARGATE_VCPUS = "L-3032A538"
# "L-36FBB829: Fargate Spot vCPU resource count".
FARGATE_SPOT_VCPUS = "L-36FBB829"
PAUSE = 2
DESCRIBED_AT_ONCE = 100


class Failure(Exception):
    """It cannot go on; the message is for the operator, and says what to do."""


def region():
    """Where to: as the AWS CLI has it, which reads AWS_REGION first. boto3 alone does not; None: what it reads."""
    return os.environ.get("AWS_REGION") or None


def client(service):
    return boto3.client(service, region_name=region(), config=Config(connect_timeout=5, read_timeout=60, retries={"max_attempts": 3}))


def code(error):
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__


def why(error):
    """What AWS says is wrong, without the request."""
    return f"{code(error)}: {error.response['Error'].get('Message')}" if isinstance(error, ClientError) else str(error)


def main(what, done):
    """Prints what is done as it is done, and ends as `make` expects."""
    try:
        for line in done():
            print(line, flush=True)
    except NoRegionError:
        sys.exit(f"{what} FAILED: no Region: set AWS_REGION, or `aws configure set region ...`")
    except (Failure, BotoCoreError, ClientError) as error:
        sys.exit(f"{what} FAILED: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


# -- What CloudFormation knows. `client(service)` makes a client -------------------------------------------


def identity(client):
    """Who you are, as STS says it."""
    try:
        return client("sts").get_caller_identity()
    except ClientError as error:
        raise Failure(f"AWS does not take your credentials ({code(error)}): log in again (aws sso login)") from None
    except BotoCoreError as error:
        raise Failure(f"no AWS credentials ({error}): `aws sso login`, AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                      "AWS_SECRET_ACCESS_KEY") from None


def find(client, stack):
    """The stack, or None; where there is but a change set that nobody executed, there is none."""
    try:
        found = client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
        return None if found["StackStatus"] == "REVIEW_IN_PROGRESS" else found
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise


def get(client, stack):
    return find(client, stack) or _none(client, stack)


def _none(client, stack):
    region = client("cloudformation").meta.region_name
    raise Failure(f"there is no stack {stack} in {region}: STACK=... or AWS_REGION=... names another")


def outputs(found):
    return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}


def parameters(found):
    return {parameter["ParameterKey"]: parameter.get("ParameterValue", "") for parameter in found.get("Parameters", [])}


def is_usable(found):
    return found is not None and found["StackStatus"] in USABLE


def refusal(client, stack, found):
    """Why this stack cannot be gone on with, and the way on; None: it can, now or once nobody is at it any more."""
    status = found["StackStatus"] if found else ""
    region = client("cloudformation").meta.region_name
    if status in DEAD:
        return (f"the stack {stack} is in {status}{why_failed(client, stack)}; it can only be deleted; way on: aws cloudformation "
                f"delete-stack --stack-name {stack} --region {region}, mend that, and again")
    if status == "UPDATE_ROLLBACK_FAILED":
        return (f"the stack {stack} is in {status}{why_failed(client, stack)}; way on: mend that, then aws cloudformation "
                f"continue-update-rollback --stack-name {stack} --region {region}, and again")
    return None


def why_failed(client, stack):
    """The first thing that failed; what follows is cancelled."""
    pages = client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=stack)
    failed = [event for page in pages for event in page["StackEvents"]
              if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in event.get("ResourceStatusReason", "")]
    if not failed:
        return ""
    return f" because of {failed[-1]['LogicalResourceId']}: {failed[-1].get('ResourceStatusReason', 'no reason given')}"


# -- What is in it ---------------------------------------------------------------------------------------


def tasks(client, found):
    """The ARNs of a stack's tasks that are not asked to stop yet. In a cluster that was there before, others have theirs."""
    given, cluster, ecs = parameters(found), outputs(found)["ClusterName"], client("ecs")
    pages = ecs.get_paginator("list_tasks").paginate(cluster=cluster, desiredStatus="RUNNING")
    arns = [task for page in pages for task in page["taskArns"]]
    if given.get("CreateCluster") != "false":
        return arns
    described = [task for at in range(0, len(arns), DESCRIBED_AT_ONCE)
                 for task in ecs.describe_tasks(cluster=cluster, tasks=arns[at:at + DESCRIBED_AT_ONCE], include=["TAGS"])["tasks"]]
    return [task["taskArn"] for task in described if is_runner_of(given, task)]


def is_runner_of(given, task):
    """By the name of its runner (src/ids.rs), whatever definition its class has; what has none, by its family."""
    name = {tag["key"]: tag["value"] for tag in task.get("tags", [])}.get("gha:runner-name")
    if name:
        return bool(re.fullmatch(rf"{re.escape(given['RunnerNamePrefix'])}-(\d+|pool-\d+)-\d+", name))
    family = task["taskDefinitionArn"].rsplit("/", 1)[-1].split(":")[0]
    return family in [given["TaskDefinitionFamily"] + which for which in ("", "-arm64", "-docker")]


def with_providers(cluster, lacks):
    """The command that adds capacity providers to a cluster, as ECS describes it. It puts all of them, and so takes away what it is
    not told."""
    providers = [*cluster.get("capacityProviders", []), *sorted(lacks)]
    strategy = [",".join(f"{key}={value}" for key, value in it.items()) for it in cluster.get("defaultCapacityProviderStrategy", [])]
    return " ".join(["aws ecs put-cluster-capacity-providers --cluster", cluster["clusterName"], "--capacity-providers", *providers,
                     "--default-capacity-provider-strategy", *(strategy or ["'[]'"])])


def is_gone(error):
    """What was asked for is not there any more."""
    return any(word in code(error) for word in ("NotFound", "NonExistent", "DoesNotExist"))


def messages(client, queue_url):
    """How many messages a queue has, those included that are at work or wait."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
    counts = client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
    return sum(int(counts.get(name, 0)) for name in names)


class Stack:
    """One stack, and the session that everything of it is asked with."""

    def __init__(self, name, session=None):
        self.name = name
        self.session = session or boto3.Session(region_name=region())
        if not self.session.region_name:
            raise Failure("no Region is set; way on: export AWS_REGION=eu-west-1 (or the one that you want), and again")

    def client(self, service, **more):
        return self.session.client(service, **more)

    def identity(self):
        return identity(self.client)

    def fargate_vcpus(self):
        """The account's quota; None: we may not look."""
        try:
            quotas = self.client("service-quotas", config=Config(read_timeout=10, retries={"max_attempts": 1}))
            quota = quotas.get_service_quota(ServiceCode="fargate", QuotaCode=FARGATE_VCPUS)
            return quota["Quota"]["Value"]
        except (BotoCoreError, ClientError):
            return None

    def describe(self):
        """What CloudFormation knows of it; None: there is none."""
        try:
            return find(self.client, self.name)
        except ClientError as error:
            raise Failure(f"the stack {self.name} cannot be looked at ({why(error)}); way on: credentials that may "
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

    def unusable(self, found):
        return refusal(self.client, self.name, found)

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
                raise Failure(self.unusable(found) or f"the deployment failed:\n{end}\nway on: mend that, and again")
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

    def read_secret(self, arn):
        try:
            return self.client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]
        except (BotoCoreError, ClientError) as error:
            raise Failure(f"the secret {arn} cannot be read ({why(error)}); way on: credentials that may "
                          "secretsmanager:GetSecretValue, and again") from None

    def write_secret(self, arn, text):
        self.client("secretsmanager").put_secret_value(SecretId=arn, SecretString=text)

    def invoke(self, function, event):
        """The function's answer; a Failure when it did not answer with one."""
        try:
            answer = self.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event).encode())
            payload = json.loads(answer["Payload"].read())
        except (BotoCoreError, ClientError, ValueError) as error:
            raise Failure(f"{function} cannot be asked ({why(error)})") from None
        if answer.get("FunctionError"):
            raise Failure(f"{function} answers with an error: {str(payload.get('errorMessage'))[:200]}")
        return payload

    def tasks(self, cluster):
        """Runners' tasks that have not ended."""
        ecs = self.client("ecs")
        arns = ecs.list_tasks(cluster=cluster, desiredStatus="RUNNING")["taskArns"]
        return ecs.describe_tasks(cluster=cluster, tasks=arns[:100], include=["TAGS"])["tasks"] if arns else []


def deploy_command(name, parameters):
    """What `make deploy` does, with the parameters that its caller was given besides; without a terminal it asks nothing."""
    given = os.environ.get("PARAMETERS", "")
    overrides = " ".join([*(f"{key}={value}" for key, value in parameters.items()), given]).strip()
    return ["make", "--no-print-directory", "deploy", f"STACK={name}", f"PARAMETERS={overrides}"]

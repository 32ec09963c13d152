"""A stack in your account, as the scripts of this folder see it. They use your AWS credentials, as the AWS CLI would."""

import sys

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError

ENDED = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE")


class Failure(Exception):
    """It cannot go on; the message is for the operator, and says what to do."""


def client(service):
    return boto3.client(service, config=Config(connect_timeout=5, read_timeout=60, retries={"max_attempts": 3}))


def code(error):
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__


def find(client, stack):
    """The stack, or None."""
    try:
        return client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
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
    return {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in found.get("Parameters", [])}


def tasks(client, found):
    """The ARNs of a stack's tasks that are not asked to stop yet. In a cluster that was there before, others have theirs."""
    given, ecs = parameters(found), client("ecs").get_paginator("list_tasks")
    family = given["TaskDefinitionFamily"]
    of = [{"family": family}, {"family": f"{family}-arm64"}] if given.get("CreateCluster") == "false" else [{}]
    return [task for which in of
            for page in ecs.paginate(cluster=outputs(found)["ClusterName"], desiredStatus="RUNNING", **which)
            for task in page["taskArns"]]


def messages(client, queue_url):
    """How many messages a queue has, those included that are at work or wait."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
    counts = client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
    return sum(int(counts.get(name, 0)) for name in names)


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

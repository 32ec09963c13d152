"""Stops a deployed stack, and lets it go on: what `make stop` and `make resume` run.

It uses your AWS credentials, as the AWS CLI would.
"""

import sys
import time

import boto3
from botocore.exceptions import BotoCoreError, ClientError

# Those that start tasks. The webhook goes on: what GitHub tells it meanwhile waits on the queues, for a day.
FUNCTIONS = ["DispatchFunctionName", "ReconcileFunctionName"]
# The longest that a function goes on that was at work (reconcile's time-out in template.yaml).
AT_WORK_SECONDS = 120
LOOK_AGAIN_SECONDS = 30


def outputs(client, stack):
    found = client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
    return {output["OutputKey"]: output["OutputValue"] for output in found}


def stop(client, stack, at_work=AT_WORK_SECONDS):
    """No function starts a task any more, and every task is stopped. Yields what was done."""
    of_stack = outputs(client, stack)
    for function in FUNCTIONS:
        client("lambda").put_function_concurrency(FunctionName=of_stack[function], ReservedConcurrentExecutions=0)
        yield f"{of_stack[function]} runs no more"
    ecs, cluster = client("ecs"), of_stack["ClusterName"]
    until = time.monotonic() + at_work
    while True:
        last = time.monotonic() >= until
        for page in ecs.get_paginator("list_tasks").paginate(cluster=cluster, desiredStatus="RUNNING"):
            for task in page["taskArns"]:
                ecs.stop_task(cluster=cluster, task=task, reason="make stop")
                yield f"stopped {task}"
        if last:
            return
        yield f"looking again in {LOOK_AGAIN_SECONDS} s: a function that was at work may have started one more"
        time.sleep(LOOK_AGAIN_SECONDS)


def resume(client, stack):
    """What waits on the queues is gone on with. Yields what was done."""
    of_stack = outputs(client, stack)
    for function in FUNCTIONS:
        client("lambda").delete_function_concurrency(FunctionName=of_stack[function])
        yield f"{of_stack[function]} runs again"


if __name__ == "__main__":
    _, what, name = sys.argv
    try:
        for done in {"stop": stop, "resume": resume}[what](boto3.client, name):
            print(done, flush=True)
    except (BotoCoreError, ClientError, KeyError) as error:
        sys.exit(f"{what} FAILED: {error}")

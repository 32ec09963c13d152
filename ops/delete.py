"""Drains and deletes a deployed stack, and says what is left of it: what `make delete` runs."""

import os
import sys
import time

import stack as stacks
from stack import Failure
from stop import drain

LOOK_AGAIN_SECONDS = 10
# What template.yaml retains, what it costs while it lies there, and how it is deleted. (us-east-1, USD.)
LEFT = {
    "AWS::SQS::Queue": (
        "nothing", lambda client, id_: client("sqs").delete_queue(QueueUrl=id_)),
    "AWS::Logs::LogGroup": (
        "0.03 a GB and month, until its lines are as old as LogRetentionDays",
        lambda client, id_: client("logs").delete_log_group(logGroupName=id_)),
    # At once: a secret that could still be recovered would keep its name from a new stack.
    "AWS::SecretsManager::Secret": (
        "0.40 a month",
        lambda client, id_: client("secretsmanager").delete_secret(SecretId=id_, ForceDeleteWithoutRecovery=True)),
    "AWS::ECR::Repository": (
        "0.10 a GB and month", lambda client, id_: client("ecr").delete_repository(repositoryName=id_, force=True)),
}


def delete(client, stack, confirm, leftovers=False, look_again=LOOK_AGAIN_SECONDS, **how):
    """Yields what was done. `confirm(question)` is asked once, when it is known what would be lost."""
    found = stacks.find(client, stack)
    if found:
        id_ = found["StackId"]
        if "JobQueueUrl" in stacks.outputs(found):
            yield from drain(client, stack, **how)
            yield from (line for line in losses(client, stacks.outputs(found)))
        confirm(f"Delete {id_}?")
        yield from remove(client, id_, look_again)
    else:
        id_ = last_deleted(client, stack)
        confirm(f"Delete what is left of {id_}?")
    left = [it for it in kept(client, id_) if exists(client, *it)]
    for kind, name in left:
        yield f"left: {kind.split('::')[1]} {name}, which costs {LEFT[kind][0]}" if not leftovers else \
            remove_leftover(client, kind, name)
    if left and not leftovers:
        yield ("A new stack of this name needs those names: `make delete LEFTOVERS=1` deletes them, with the jobs, tokens, "
               "images and logs that are in them")
    yield ("Not of the stack, and still there: secrets that you made, the bucket of `sam deploy` "
           "(stack aws-sam-cli-managed-default), and at GitHub the App or webhook, which goes on calling")


def losses(client, of_stack):
    for queue, what in (("JobQueueUrl", "jobs wait, and would wait until GitHub fails them"),
                        ("JobDeadLetterQueueUrl", "rejected jobs lie in the dead-letter queue")):
        if queue in of_stack and (count := stacks.messages(client, of_stack[queue])):
            yield f"{count} {what}"


def remove(client, id_, look_again):
    stacks_ = client("cloudformation")
    stacks_.delete_stack(StackName=id_)
    yield "deleting the stack; this takes a few minutes"
    while (status := stacks_.describe_stacks(StackName=id_)["Stacks"][0]["StackStatus"]) == "DELETE_IN_PROGRESS":
        time.sleep(look_again)
    if status != "DELETE_COMPLETE":
        failed = {f"{it['LogicalResourceId']}: {it.get('ResourceStatusReason', '')}" for it in events(client, id_, "DELETE_FAILED")}
        raise Failure("\n  ".join([f"the stack is {status}; mend this, and run it again:", *sorted(failed)]))
    yield "the stack is deleted"


def last_deleted(client, stack):
    pages = client("cloudformation").get_paginator("list_stacks").paginate(StackStatusFilter=["DELETE_COMPLETE"])
    gone = [it for page in pages for it in page["StackSummaries"] if it["StackName"] == stack]
    if not gone:
        raise Failure(f"there is no stack {stack}, and none was deleted in the last 90 days")
    return max(gone, key=lambda it: it["CreationTime"])["StackId"]


def events(client, id_, status):
    pages = client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=id_)
    return [it for page in pages for it in page["StackEvents"] if it["ResourceStatus"] == status]


def kept(client, id_):
    """What the stack had to leave, when it was deleted and when a name was changed before: (type, physical id)."""
    skipped = {(it["ResourceType"], it["PhysicalResourceId"]) for it in events(client, id_, "DELETE_SKIPPED")}
    return sorted(it for it in skipped if it[0] in LEFT)


def exists(client, kind, name):
    try:
        if kind == "AWS::SQS::Queue":
            client("sqs").get_queue_attributes(QueueUrl=name, AttributeNames=["QueueArn"])
        elif kind == "AWS::Logs::LogGroup":
            groups = client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
            return any(group["logGroupName"] == name for group in groups)
        elif kind == "AWS::SecretsManager::Secret":
            return "DeletedDate" not in client("secretsmanager").describe_secret(SecretId=name)
        else:
            client("ecr").describe_repositories(repositoryNames=[name])
        return True
    except stacks.ClientError as error:
        if stacks.is_gone(error):
            return False
        raise


def remove_leftover(client, kind, name):
    LEFT[kind][1](client, name)
    return f"deleted: {kind.split('::')[1]} {name}"


def confirm(name, given):
    """By hand, or by CONFIRM=<stack> where there is no terminal."""
    def ask(question):
        if given is None and sys.stdin.isatty():
            answer = input(f"{question} Type its name to go on: ")
        else:
            answer = given
        if answer != name:
            raise Failure(f"{question} Not without its name: CONFIRM={name} where there is no terminal. "
                          "`make resume` lets a drained stack go on")
    return ask


if __name__ == "__main__":
    name = sys.argv[1]
    stacks.main("delete", lambda: delete(
        stacks.client, name, confirm(name, os.environ.get("CONFIRM")), leftovers=os.environ.get("LEFTOVERS") == "1",
        idle=os.environ.get("IDLE") == "1"))

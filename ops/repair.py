"""Puts back what somebody has changed of a deployed stack by hand, or deleted: what `make repair` runs.

CloudFormation compares what there is with the template that was deployed ("drift-aware change sets"), says what it would put
back, and does so once you agree. Nothing else changes: the template and every parameter stay as they are.
"""

import os
import sys
import time

import stack as stacks
from delete import confirm
from stack import Failure

LOOK_AGAIN_SECONDS = 5
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]


def repair(client, stack, agree, look_again=LOOK_AGAIN_SECONDS):
    """Yields what was done. `agree(question)` is asked once, when it is known what would be put back."""
    found = stacks.get(client, stack)
    if refusal := stacks.refusal(client, stack, found):
        raise Failure(refusal)
    cloudformation, name = client("cloudformation"), time.strftime("repair-%Y%m%d-%H%M%S")
    which = {"StackName": found["StackId"], "ChangeSetName": name}
    cloudformation.create_change_set(
        **which, ChangeSetType="UPDATE", DeploymentMode="REVERT_DRIFT", UsePreviousTemplate=True, Capabilities=CAPABILITIES,
        Parameters=[{"ParameterKey": key, "UsePreviousValue": True} for key in stacks.parameters(found)])
    yield "comparing what there is with what was deployed; this takes a minute"
    while (made := cloudformation.describe_change_set(**which))["Status"] in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
        time.sleep(look_again)
    changes = [change["ResourceChange"] for change in made.get("Changes", [])]
    if made["Status"] == "FAILED" or not changes:
        cloudformation.delete_change_set(**which)
        if changes or not is_empty(made):
            raise Failure(f"it cannot be compared: {made.get('StatusReason', 'no reason given')}")
        yield "all is as it was deployed: there is nothing to put back"
        return
    for change in changes:
        yield f"{change['Action'].lower()}: {change['LogicalResourceId']} ({change['ResourceType']})"
    try:
        agree(f"Put that back in {found['StackId']}?")
    except Failure:
        cloudformation.delete_change_set(**which)
        raise
    cloudformation.execute_change_set(**which)
    while (now := stacks.get(client, stack))["StackStatus"].endswith("_IN_PROGRESS"):
        time.sleep(look_again)
    if now["StackStatus"] != "UPDATE_COMPLETE":
        raise Failure(stacks.refusal(client, stack, now) or f"it is {now['StackStatus']}{stacks.why_failed(client, stack)}")
    yield "it is as it was deployed"


def is_empty(made):
    """CloudFormation calls it a failure that there is nothing to do."""
    reason = made.get("StatusReason", "")
    return made["Status"] == "CREATE_COMPLETE" or "didn't contain changes" in reason or "No updates" in reason


if __name__ == "__main__":
    name = sys.argv[1]
    stacks.main("repair", lambda: repair(stacks.client, name, confirm(name, os.environ.get("CONFIRM"))))

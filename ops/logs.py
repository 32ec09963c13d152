"""One job's whole story, out of the logs of a deployed stack: what `make logs JOB=...` prints."""

import json
import re
import sys
from datetime import datetime, timezone

import stack as stacks
from stack import Failure

# The webhook knows deliveries, and its log names no job.
FUNCTIONS = ["dispatch", "reconcile", "author"]


def story(client, stack, job):
    """Yields a line for each thing that was done about a job, given by its number or the URL of its page at GitHub."""
    number = re.search(r"(?:^|/)(\d+)(?:$|[?#])", job)
    if not number:
        raise Failure(f"JOB={job}: the job's number, or its page at GitHub (.../actions/runs/RUN/job/NUMBER)")
    number = int(number[1])
    found = stacks.get(client, stack)
    lines = sorted(read(client, stack, found, number), key=lambda line: line["timestamp"])
    if not lines:
        raise Failure(f"no log of {stack} knows the job {number}: GitHub's Recent Deliveries say what the webhook made of it")
    for line in lines:
        yield "  ".join(str(line[key]) for key in ("timestamp", "function", "outcome", "reason", "message") if line.get(key))
    family, container = (stacks.parameters(found)[name] for name in ("TaskDefinitionFamily", "ContainerName"))
    for task in dict.fromkeys(line["task"] for line in lines if line.get("task")):
        yield f"its runner: aws logs tail /ecs/{family} --since 14d --log-stream-names ecs/{container}/{task.rsplit('/', 1)[-1]}"


def read(client, stack, found, number):
    """The lines of JSON that are about the job."""
    for function in FUNCTIONS:
        if f"{function.title()}FunctionName" not in stacks.outputs(found):
            continue
        pages = client("logs").get_paginator("filter_log_events").paginate(
            logGroupName=f"/aws/lambda/{stack}/{function}", filterPattern=f'"{number}"')
        for event in (event for page in pages for event in page["events"]):
            try:
                line = json.loads(event["message"])
            except ValueError:
                continue
            if line.get("job") == number:
                yield (of_usage(line) if "_aws" in line else line) | {"function": function}


def of_usage(line):
    """What the job's task is billed for is a line of metrics, which has another time and no sentence."""
    at = datetime.fromtimestamp(line["_aws"]["Timestamp"] / 1000, timezone.utc)
    used = f"its task used {line['VcpuSeconds']:g} vCPU-seconds and {line['GibSeconds']:g} GiB-seconds of {line['capacity']}"
    return {"timestamp": at.isoformat(timespec="microseconds").replace("+00:00", "Z"), "message": used, "task": line["task"]}


if __name__ == "__main__":
    stacks.main("logs", lambda: story(stacks.client, *sys.argv[1:]))

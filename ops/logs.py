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
    given, definitions = stacks.parameters(found), {}
    for line in (line for line in lines if line.get("task")):
        definitions[line["task"]] = definitions.get(line["task"]) or line.get("definition")
    for task, definition in definitions.items():
        yield f"its runner: {of_runner(client, given, task, definition or given['TaskDefinitionFamily'])}"


def of_runner(client, given, task, definition):
    """How to read what a task's runner has printed: its definition says where that is."""
    try:
        containers = client("ecs").describe_task_definition(taskDefinition=definition)["taskDefinition"]["containerDefinitions"]
    except stacks.ClientError as error:
        return f"{task}, whose log is where {definition} has it ({stacks.code(error)})"
    runner = next((it for it in containers if it["name"] == given["ContainerName"]), {})
    options = runner.get("logConfiguration", {}).get("options", {})
    if "awslogs-group" not in options:
        return f"{task}, whose log is where {definition} has it, and not in CloudWatch"
    group = options["awslogs-group"]
    stream = f"{options.get('awslogs-stream-prefix', 'ecs')}/{runner['name']}/{task.rsplit('/', 1)[-1]}"
    groups = client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    if any(it["logGroupName"] == group and it.get("logGroupClass") == "INFREQUENT_ACCESS" for it in groups):
        return f"Logs Insights, of {group}: fields @message | filter @logStream = \"{stream}\" | sort @timestamp"
    return f"aws logs tail {group} --since 14d --log-stream-names {stream}"


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

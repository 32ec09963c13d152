"""checkov's checks of what CloudFormation gets to see, and parliament's of what each role, queue and bus lets whom do. What
`make lint` runs.

Each finding that stands has its reason here. Neither program asks anybody: their rules are those of their pinned versions.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from guard import TRIED
from lint import COMBINATIONS, transformed
from policies import Stack
from test_policies import MODES, QUEUES, ROLES, TEMPLATE

CHECKS = {
    "CKV_AWS_27": "queues with a key of one's own: SQS encrypts with its own (SqsManagedSseEnabled), and EventBridge needs no grant",
    "CKV_AWS_51": "immutable tags: `latest` and `current` are there to move; every other tag of the pipeline's is immutable",
    "CKV_AWS_65": "Container Insights: paid for by the metric; switch it on where it is wanted",
    "CKV_AWS_95": "access logs: the function logs every delivery, and this would be a log of them twice",
    "CKV_AWS_115": "reserved concurrency: the event source mappings limit dispatch and reconcile, WebhookReservedConcurrency the webhook",
    "CKV_AWS_116": "a function's dead-letter queue is for asynchronous calls: the queues have theirs, and what redeliver misses it does a minute later",
    "CKV_AWS_117": "functions in a VPC: FunctionSubnetIds; Lambda's own network has a way to GitHub, and nothing gets in",
    "CKV_AWS_136": "images with a key of one's own: ECR encrypts with its own",
    "CKV_AWS_149": "secrets with a key of one's own: SecretKmsKeyArn",
    "CKV_AWS_158": "log groups with a key of one's own: CloudWatch encrypts with its own; nothing secret is logged by functions",
    "CKV_AWS_173": "variables with a key of one's own: there is no secret among them, only secrets' names",
    "CKV_AWS_258": "a function URL with IAM: GitHub cannot sign for AWS; the function checks the body's signature first",
}
# Each of parliament's findings, by what it is about.
POLICIES = {
    "RESOURCE_STAR ecs:ListTasks": "it is given for one cluster, by a condition: ListTasks names container instances, and Fargate has none",
    "RESOURCE_MISMATCH ecr:BatchImportUpstreamImage": "parliament knows no resource of it; ECR's guide to pull-through caches names repositories",
}
POLICIES |= {f"RESOURCE_STAR ec2:{action}": "Lambda's own calls for a function in a VPC, forbidden to the function's code by a condition"
             for action in ("AssignPrivateIpAddresses", "CreateNetworkInterface", "DeleteNetworkInterface", "UnassignPrivateIpAddresses")}


def run(command, verdicts):
    """What a program printed; an exit code that is no verdict ends it all."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in verdicts:
        sys.exit(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def checked(environment, folder):
    """The checks that any combination fails, and how many resources were checked."""
    files = []
    for number, name in enumerate(TRIED):
        files.append(folder / f"{number}.json")
        files[-1].write_text(json.dumps(transformed({"Organization": "acme"} | COMBINATIONS[name])))
    report = json.loads(run([environment / "bin" / "checkov", "--framework", "cloudformation", "--skip-download", "--quiet", "--compact",
                             "--output", "json", *(part for file in files for part in ("--file", file))], {0, 1}))
    summary = report["summary"]
    if summary["parsing_errors"] or summary["passed"] < 200:
        sys.exit(f"checkov did not check it all: {summary}")
    return {check["check_id"] for check in report["results"]["failed_checks"]}, summary["passed"]


def policies():
    """Every policy that is different in some mode."""
    seen = {}
    for mode, parameters in MODES.items():
        stack = Stack(TEMPLATE, **parameters)
        of = [(role, stack.of_role(role)) for role in ROLES if stack.creates(role)]
        of += [(queue, stack.of_queue(queue)) for queue in QUEUES if stack.creates(queue)]
        of += [("EventBus", stack.of_bus())] if stack.creates("EventBus") else []
        for name, statements in of:
            if statements:
                seen.setdefault(json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=1), f"{name}, {mode}")
    return seen


def about(finding):
    """The same finding as words that can be listed: its kind, and the action that it is about."""
    actions = finding["detail"] if isinstance(finding["detail"], list) else [finding["detail"]]
    for action in actions:
        yield f"{finding['issue']} {action['action'] if isinstance(action, dict) else action}".strip()


def audited(environment, folder):
    """What parliament finds in any policy, and how many it read."""
    texts = policies()
    for text, name in texts.items():
        (folder / f"{name}.policy").write_text(text)
    printed = run([environment / "bin" / "parliament", "--directory", folder, "--include_policy_extension", "policy", "--json"], {0, 1})
    lines = [json.loads(line) for line in printed.splitlines()]
    return {words for line in lines for words in about(line)}, len(texts)


def main(environment):
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for what, exceptions, (found, many) in (
                ("checkov", CHECKS, checked(environment, pathlib.Path(folder))),
                ("parliament", POLICIES, audited(environment, pathlib.Path(folder)))):
            for finding in sorted(found - exceptions.keys()):
                failed = True
                print(f"{what}: {finding}, and no exception (tests/template/scan.py)")
            for finding in sorted(exceptions.keys() - found):
                failed = True
                print(f"{what}: {finding} is found no more: it needs no exception")
            print(f"{what}: {many} looked at, {len(found)} findings are exceptions", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".venv/scan"))

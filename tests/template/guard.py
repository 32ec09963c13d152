"""AWS Control Tower's proactive rules on what CloudFormation gets to see. What `make lint` runs.

An account may enforce any of them. Those that are not kept have their reason here, and what an operator can do about it.
"""

import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tarfile
import tempfile

from lint import COMBINATIONS, transformed

# Between them they break every rule that any combination breaks.
TRIED = ["as it comes", "everything", "container-minted", "image pipeline", "Docker class"]
EXCEPTIONS = {
    "ct-apigateway-pr-4": "access logs: the function logs every delivery, and this would be a log of them twice",
    "ct-apigateway-pr-5": "no authorizer: GitHub cannot sign for AWS; the function checks the body's signature first",
    "ct-cloudwatch-pr-1": "alarms without an action: AlarmTopicArn gives them one",
    "ct-cloudwatch-pr-2": "logs for a year: LogRetentionDays, 30 by default, since they hold what jobs print",
    "ct-cloudwatch-pr-3": "log groups with a key of one's own: CloudWatch encrypts with its own; nothing secret is logged by functions",
    "ct-codebuild-pr-4": "privileged: the image pipeline builds and runs containers",
    "ct-ecr-pr-1": "a lifecycle policy for the repository of containers that mint: which of its images are used is known to who pushes",
    "ct-ecr-pr-3": "immutable tags: `latest` and `current` are there to move",
    "ct-ecs-pr-2": "Container Insights: paid for by the metric; switch it on where it is wanted",
    "ct-ecs-pr-3": "a user that is not root: only EnableDockerClass's daemon and the container that prepares its volumes have none",
    "ct-ecs-pr-11": "nothing privileged: EnableDockerClass's Docker daemon is, which is what it is for",
    "ct-ecs-pr-6": "a read-only disk: jobs write to it",
    "ct-ecs-pr-7": "a memory limit of the container: it has all of its task's, which has one",
    "ct-lambda-pr-2": "a function that anybody may call: GitHub's webhook; FrontDoor=http-api is behind an API",
    "ct-lambda-pr-3": "functions in a VPC: FunctionSubnetIds; the rule does not see through a parameter",
    "ct-lambda-pr-5": "a function URL with IAM: GitHub cannot; FrontDoor=http-api has no function URL",
    "ct-sqs-pr-1": "a dead-letter queue for each queue: dead-letter queues have none themselves",
}


def unpacked(environment):
    """The folder of the rules and of cfn-guard."""
    packed, = pathlib.Path(environment).glob("**/_jsii/cdk-validator-cfnguard@*.tgz")
    folder = pathlib.Path(environment) / "package"
    if not folder.exists():
        with tarfile.open(packed) as archive:
            archive.extractall(environment, filter="data")
    return folder


def cfn_guard(folder):
    system = {"Linux": "ubuntu", "Darwin": "macos"}[platform.system()]
    machine = {"arm64": "aarch64"}.get(platform.machine(), platform.machine())
    program = folder / "bin" / system / machine / "cfn-guard"
    program.chmod(0o755)
    return program


def broken(folder, template):
    """The rules that a template does not keep."""
    rules = folder / "rules" / "control-tower" / "cfn-guard"
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(template, file)
        file.flush()
        done = subprocess.run([cfn_guard(folder), "validate", "--rules", rules, "--data", file.name, "--show-summary", "all",
                               "--output-format", "single-line-summary"], capture_output=True, text=True)
    found = re.findall(r"^(ct-[\w-]+)\.guard/\S+ +(FAIL|PASS|SKIP)", done.stdout, re.MULTILINE)
    # 0: all are kept; 19: some are not. Anything else is no verdict.
    if done.returncode not in (0, 19) or len({rule for rule, _ in found}) < 200:
        sys.exit(f"cfn-guard ended with {done.returncode}: {done.stderr[-2000:]}")
    return {rule for rule, verdict in found if verdict == "FAIL"}, sum(verdict == "PASS" for _, verdict in found)


def main(environment):
    folder, failed, seen = unpacked(environment), False, set()
    for name in TRIED:
        rules, kept = broken(folder, transformed({"Organization": "acme"} | COMBINATIONS[name]))
        seen |= rules
        for rule in sorted(rules - EXCEPTIONS.keys()):
            failed = True
            print(f"{name}: {rule} is broken, and no exception (tests/template/guard.py)")
        print(f"{name}: {kept} of Control Tower's rules are kept, {len(rules)} are exceptions", flush=True)
    for rule in sorted(EXCEPTIONS.keys() - seen):
        failed = True
        print(f"{rule} is kept: it needs no exception any more")
    sys.exit(failed)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(".venv", "guard"))

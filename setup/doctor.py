"""What is wrong with a deployed stack, and the fix: what `make doctor` runs.

What a function's own role must be able to do is asked of the reconcile function, by invoking it with {"doctor": …}; the
rest is looked at here, with your AWS credentials. Nothing is changed, but with --deep. What we may not look at is unknown,
with the action that is missing, and never a failure. Exit code: 0 nothing fails, 1 something does, 2 there was nothing to
look at.
"""

import argparse
import json
import os
import re
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import BotoCoreError, ClientError

import bundle
import deep
import flow_checks
import github_checks
import image_checks
import role_checks
import runner_checks
import web
from finding import Absent, Seen, check
from github import Refused, wanted
from stack import Failure, Stack, is_usable, outputs, parameters, why

DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "AccessDeniedFault")
CHECKS = flow_checks.CHECKS + runner_checks.CHECKS + image_checks.CHECKS + role_checks.CHECKS + github_checks.CHECKS


def examine(stack, found_outputs, found_parameters, also=()):
    """Every check, the functions' own first."""
    seen = Seen(stack, found_outputs, found_parameters)
    with ThreadPoolExecutor(max_workers=4) as pool:
        ours = list(pool.map(lambda looks: one(looks, seen), [*CHECKS, *also]))
    return functions_own(seen) + [found for report in ours for found in report]


def one(looks, seen):
    """What one check found. The last that it yields is that all is well, and counts only if nothing else came."""
    name = looks.__name__.replace("_", " ")
    try:
        found = list(looks(seen))
        return [result for result in found if result["status"] != "ok"] or found
    except ClientError as error:
        if error.response["Error"].get("Code") in DENIED:
            action = denied_action(error)
            return [check(looks.__name__, "unknown", name, f"{action} is not allowed to you", f"allow {action} to who runs this")]
        return [check(looks.__name__, "unknown", name, why(error))]
    except Absent:
        return []
    except (BotoCoreError, KeyError, Failure, Refused, web.Unreachable) as error:
        return [check(looks.__name__, "unknown", name, f"{type(error).__name__}: {error}")]


def denied_action(error):
    """As AWS names it in its message, where it does."""
    found = re.search(r"perform: ([a-z0-9-]+:[A-Za-z]+)", str(error))
    return found[1] if found else error.operation_name


def functions_own(seen):
    if seen.parameters.get("Mode") == "container-minted" or "reconcile" not in seen.functions():
        return []
    try:
        question = {"webhook_url": seen.outputs.get("WebhookUrl"), "wants": wanted(seen.parameters)}
        answer = seen.stack.invoke(seen.outputs["ReconcileFunctionName"], {"doctor": question})
        return answer["checks"]
    except (Failure, KeyError, TypeError) as error:
        return [check("github", "unknown", "what the functions see of GitHub", str(error),
                      "allow lambda:InvokeFunction on the reconcile function")]


def table(report):
    """For people: a line a check, and its fix below it."""
    marks = {"ok": "ok     ", "warn": "warn   ", "fail": "FAIL   "}
    lines = []
    for found in report:
        lines.append(f"{marks.get(found['status'], 'unknown')}  {found['what']}" + (f": {found['found']}" if found.get("found") else ""))
        if found.get("fix") and found["status"] != "ok":
            lines.extend(textwrap.wrap(f"fix: {found['fix']}", 118, initial_indent=" " * 9, subsequent_indent=" " * 14,
                                       break_long_words=False, break_on_hyphens=False))
    return "\n".join(lines)


def look(name, also=()):
    stack = Stack(name)
    found = stack.describe()
    if found is None:
        raise Failure(f"there is no stack {name} in {stack.session.region_name}; way on: make setup ORG=…, or STACK=…")
    if not is_usable(found) and not found["StackStatus"].endswith("_IN_PROGRESS"):
        return [check("stack", "fail", "the stack is deployed", found["StackStatus"], stack.unusable(found))]
    return [check("stack", "ok", f"the stack is deployed ({found['StackStatus']})"),
            *examine(stack, outputs(found), parameters(found), also)]


def main():
    parser = argparse.ArgumentParser(prog="make doctor", description=__doc__.splitlines()[0])
    parser.add_argument("--stack", default="gha-fargate-runners")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--deep", action="store_true", help="also makes and removes a registration, and runs a task")
    parser.add_argument("--bundle", action="store_true", help="writes a zip file for a bug report")
    options = parser.parse_args()
    try:
        report = look(options.stack, deep.CHECKS if options.deep else ())
        told = f"\n{bundle.write(Stack(options.stack), report)}" if options.bundle else ""
    except (Failure, BotoCoreError, ClientError) as error:
        print(f"doctor: {error if isinstance(error, Failure) else why(error)}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=1) if options.json else table(report) + told)
    return 1 if any(found["status"] == "fail" for found in report) else 0


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())

"""What only trying shows: checks of `make doctor DEEP=1`. Each removes what it makes."""

import secrets
import time

from finding import check
from github import GitHub, Refused, in_secret
from stack import Failure

TASK_SECONDS, PAUSE = 300, 2
# The smallest that Fargate has.
SMALLEST = {"cpu": "256", "memory": "512"}


def a_runner_can_be_registered(seen):
    what = "a runner can be registered"
    if "GitHubSecretArn" not in seen.outputs or seen.parameters.get("RunnerScope", "org") != "org":
        yield check("registration", "unknown", what, "only tried for an organisation's runners, dispatcher-minted")
        return
    try:
        apps = [app for text in seen.credentials() for app in in_secret(text) if app]
    except ValueError:
        apps = []
    except Failure as error:
        yield check("registration", "unknown", what, str(error), "allow secretsmanager:GetSecretValue on the secret to who runs this")
        return
    if not apps:
        yield check("registration", "unknown", what, "the secret holds no App's credentials")
        return
    organization, group = seen.parameters["Organization"], int(seen.parameters.get("RunnerGroupId") or 1)
    github = GitHub(of_api(seen.parameters.get("GitHubApiUrl", "https://api.github.com")))
    try:
        for app_id, pem in apps:
            app = github.app(app_id, pem)
            installation = github.installation(app, organization)
            if installation is None:
                yield check("registration", "fail", what, f"the App {app.slug} is not installed in {organization}", github.install_url(app))
                return
            github.mint_and_delete(app, installation["id"], organization, group, f"doctor-{secrets.token_hex(4)}")
    except Refused as error:
        fix = (f"RunnerGroupId: is there a group {group}, open to the App?" if error.status == 404 else
               f"the permission Self-hosted runners: read and write, to accept at {github.approvals(organization)}")
        yield check("registration", "fail", what, str(error), fix)
        return
    yield check("registration", "ok", what, f"{len(apps)} made, and removed")


def of_api(url):
    """The host that people see, of the API's URL."""
    return url.removesuffix("/api/v3") if url.endswith("/api/v3") else url.replace("://api.", "://", 1)


def a_task_runs(seen):
    what, variables = "a task starts and ends", seen.variables()
    if seen.parameters.get("Mode") == "container-minted":
        yield check("deep-task", "unknown", what, "only tried dispatcher-minted: a container that mints would register a runner")
        return
    ecs, cluster = seen.client("ecs"), seen.outputs["ClusterName"]
    started = ecs.run_task(
        cluster=cluster, taskDefinition=variables["TASK_DEFINITION"], count=1, startedBy="doctor",
        capacityProviderStrategy=[{"capacityProvider": seen.parameters.get("Capacity", "FARGATE").split(",")[0], "weight": 1}],
        networkConfiguration={"awsvpcConfiguration": {
            "subnets": variables["SUBNET_IDS"].split(","), "securityGroups": variables["SECURITY_GROUP_IDS"].split(","),
            "assignPublicIp": variables.get("ASSIGN_PUBLIC_IP", "ENABLED")}},
        overrides=SMALLEST | {"containerOverrides": [{"name": seen.container(), "command": ["true"]}]})
    if not started["tasks"]:
        reasons = ", ".join(it.get("reason", "no reason given") for it in started["failures"])
        yield check("deep-task", "fail", what, reasons, "docs/operate.md#jobswait")
        return
    yield became(ecs, cluster, started["tasks"][0]["taskArn"], seen.container(), what)


def became(ecs, cluster, arn, container, what):
    began = time.monotonic()
    while True:
        task = ecs.describe_tasks(cluster=cluster, tasks=[arn])["tasks"][0]
        if task["lastStatus"] == "STOPPED":
            break
        if time.monotonic() - began > TASK_SECONDS:
            ecs.stop_task(cluster=cluster, task=arn, reason="make doctor DEEP=1: it did not end")
            return check("deep-task", "fail", what, f"after {TASK_SECONDS} s it is {task['lastStatus']}, and was stopped",
                         "docs/troubleshooting.md#tasks")
        time.sleep(PAUSE)
    codes = [it.get("exitCode") for it in task["containers"] if it["name"] == container]
    if codes != [0]:
        found = f"{task.get('stoppedReason', '')}, exit code {codes[0] if codes else 'none'}"
        return check("deep-task", "fail", what, found, "docs/troubleshooting.md#tasks")
    return check("deep-task", "ok", what, f"within {time.monotonic() - began:.0f} s")


CHECKS = [a_runner_can_be_registered, a_task_runs]

"""From GitHub's webhook to Fargate tasks and back, on this machine: what `make demo` runs.

The project is deployed into a local AWS, beside a small GitHub stand-in. This program plays what cannot be
had locally: GitHub's deliveries, signed with the stack's own secret and posted to the function URL, and how
tasks end, with the events that ECS sends then. Everything between is the real thing: the template, its rules
and queues, and the functions. At the end it compares what there is with what there should be, and fails
if they differ.
"""

import argparse
import copy
import hashlib
import hmac
import html
import json
import re
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from urllib.parse import urlsplit

from local_aws import BINARIES, ROOT, STACK, Child, Failure, LocalAws, begin, request, wait_until
from stop import stop

ORGANIZATION = "octo-org"
# A runner that came up just now, and whose job was cancelled, is left for 75 seconds: it may have been given another.
SETTLE_SECONDS = 120
STARTED = time.monotonic()

# An image that was pinned. GitHub gives a runner no job 30 days after there is a newer one.
PINNED = "ghcr.io/octo-org/runner:2.328.0"

# Kinds of runners, and what chooses them; what a class leaves out is the stack's own.
CLASSES = [
    {"name": "usual", "labels": ["fargate"]},
    {"name": "big", "labels": ["big"], "default_size": {"cpu": 4096, "memory": 16384}, "capacity": ["FARGATE_SPOT", "FARGATE"]},
    {"name": "small", "labels": ["small"], "default_size": {"cpu": 256, "memory": 512}, "largest_size": {"cpu": 1024}},
]

# What happens to a job after it was queued.
RUNS, TWICE, CANCELLED, DIES, REFUSED = "runs", "delivered twice", "cancelled", "runner dies", "image refused"
INTERRUPTED, AGAIN = "taken back by Spot", "runs again"
# What becomes of a job that gets no runner.
SKIPPED, REJECTED = "skipped", "rejected"
# The tasks of a job at the end of its story, attempt by attempt, where it is not one that runs.
AT_THE_END = {CANCELLED: ["STOPPED"], INTERRUPTED: ["STOPPED"], DIES: ["STOPPED", "RUNNING"], REFUSED: ["STOPPED", "RUNNING"]}
# How a task ends, as its event says it.
ENDS = {
    INTERRUPTED: {"stopCode": "SpotInterruption", "stoppedReason": "Your Spot Task was interrupted."},
    DIES: {"stopCode": "TaskFailedToStart",
           "stoppedReason": "Timeout waiting for network interface provisioning to complete."},
    REFUSED: {"stopCode": "EssentialContainerExited", "stoppedReason": "Essential container in task exited"},
}
REFUSED_EXIT_CODE = 7
SIGTERM_EXIT_CODE = 143


@dataclass(frozen=True)
class Job:
    """A job, its story, and the size, capacity and class of the task that it should get, if it should get one."""

    id: int
    name: str
    labels: tuple
    story: str
    vcpu: float = 1
    gib: float = 3
    capacity: str = "FARGATE"
    chosen: str = "usual"


JOBS = [
    Job(2832853601, "test", ("self-hosted", "linux", "x64", "fargate"), TWICE),
    Job(2832853602, "build", ("self-hosted", "big"), RUNS, 4, 16, "FARGATE_SPOT", "big"),
    Job(2832853603, "lint", ("self-hosted", "fargate/cpu=4/ram=16/spot"), INTERRUPTED, 4, 16, "FARGATE_SPOT"),
    Job(2832853604, "docs", ("self-hosted", "fargate"), CANCELLED),
    Job(2832853605, "e2e", ("self-hosted", "small", "cpu=0.5"), DIES, 0.5, 1, chosen="small"),
    Job(2832853606, "train", ("self-hosted", "gpu"), SKIPPED),
    Job(2832853607, "simulate", ("self-hosted", "fargate", "cpu=64"), REJECTED),
    Job(2832853608, "nightly", ("self-hosted", "fargate"), REFUSED),
    Job(2832853609, "fuzz", ("self-hosted", "fargate", "cpu=2"), REFUSED, 2, 4),
    Job(2832853610, "format", ("self-hosted", "small"), RUNS, 0.25, 0.5, chosen="small"),
    Job(2832853611, "large", ("self-hosted", "small", "vcpu-02048-mem-008192"), REJECTED),
]
POISON = '{"action": "queued", "workflow_job": "not a job"}'


def say(text):
    print(f"[{time.monotonic() - STARTED:5.1f} s] {text}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=["dispatcher-minted", "container-minted"], default="dispatcher-minted")
    mode = parser.parse_args().mode
    begin()
    try:
        say("waiting for the local AWS to start")
        with LocalAws() as aws:
            say(f"local AWS at {aws.endpoint}")
            try:
                with GitHub(aws.log) as github:
                    say(f"GitHub stand-in at {github.url}")
                    Demo(aws, github, mode).run()
            except Failure as failure:
                print(f"\nThe end of the local AWS's log:\n{aws.log_tail()}\n", file=sys.stderr)
                raise failure
    except Failure as failure:
        sys.exit(f"demo FAILED: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
    say("done; nothing is left running")


class GitHub:
    """The project's GitHub stand-in, the one that its tests use: registrations and jobs, over HTTP."""

    def __init__(self, log):
        self.child = Child([BINARIES / "examples" / "github"], {"RUST_LOG": "warn"}, log, stdout=subprocess.PIPE)

    def __enter__(self):
        line = self.child.process.stdout.readline()
        if not line.startswith("listening on "):
            self.child.end()
            raise Failure("the GitHub stand-in did not start")
        self.url = line.split()[-1]
        return self

    def __exit__(self, error, *_):
        self.child.end()
        # It checks every request against GitHub's API, and says at its end whether one was wrong.
        if self.child.process.returncode != 0 and error is None:
            raise Failure("the GitHub stand-in was sent a request that GitHub would not have taken")

    def set_job(self, payload):
        """Lets the stand-in know a job as it is in this webhook payload."""
        self.call("POST", "/_world/jobs", payload)

    def credentials(self):
        """What the project's secret holds: the App that this GitHub knows, installed as the payloads say."""
        return json.dumps(self.call("GET", "/_world/app") | {"installation_id": RECORDED["installation"]["id"]})

    def registrations(self):
        return {runner["name"] for runner in self.call("GET", "/_world/runners")}

    def call(self, method, path, body=None):
        status, answer = request(method, self.url + path, body and json.dumps(body).encode())
        if status >= 300:
            raise Failure(f"GitHub stand-in: {method} {path}: {status}")
        return json.loads(answer) if answer else None


class Demo:
    def __init__(self, aws, github, mode):
        self.aws, self.github = aws, github
        self.minted = mode == "dispatcher-minted"
        # Only a registration can be retired, and containers that do not run here register nothing.
        self.jobs = [job for job in JOBS if self.minted or job.story != CANCELLED]
        if not self.minted:
            # Only an App has a job run again.
            self.jobs = [replace(job, story=RUNS) if job.story == INTERRUPTED else job for job in self.jobs]
        self.newest_image = None
        self.answers, self.dead_letters = {}, {}

    def run(self):
        self.deploy()
        for job in self.jobs:
            if job.story != REFUSED:
                self.deliver(payload_of(job))
        self.queue_poison()
        self.settle("runners for the queued jobs", first=True)
        self.image_grows_old()
        self.what_comes_next()
        self.settle("the outcome of every job")
        print(self.table())
        if self.minted:
            self.show_checks()
            self.look_for_configurations()
        self.stop_everything()

    def deploy(self):
        parameters = {"Organization": ORGANIZATION, "GitHubApiUrl": self.github.url, "RunnerImage": PINNED,
                      "RunnerClasses": json.dumps({"version": 1, "classes": CLASSES})}
        if self.minted:
            parameters["CheckRuns"] = "true"
        else:
            parameters["Mode"] = "container-minted"
            # ECS would notice a job that is dispatched twice by its client token, which the local one does not
            # know. With two capacities, dispatch looks for a task before it starts one.
            parameters["Capacity"] = "FARGATE,FARGATE_SPOT"
        say("waiting for the deployment of template.yaml (about ten seconds)")
        self.parameters, self.stack = parameters, self.aws.deploy(parameters)
        self.ecs, self.sqs, self.events, self.logs = map(self.aws.client, ("ecs", "sqs", "events", "logs"))
        secrets = self.aws.client("secretsmanager")
        if self.minted:
            # What `make setup` does.
            secrets.put_secret_value(SecretId=self.stack["GitHubSecretArn"], SecretString=self.github.credentials())
        secret = secrets.get_secret_value(SecretId=self.stack["WebhookSecretName"])
        self.webhook_secret = secret["SecretString"].encode()
        self.listen_in()
        say("template.yaml deployed")

    def listen_in(self):
        """Whatever the rules hand to a queue is handed to one more, which nobody empties before the end."""
        self.copies = self.sqs.create_queue(QueueName="copies")["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=self.copies, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        for bus in ("default", self.stack["EventBusName"]):
            for rule in self.events.list_rules(EventBusName=bus)["Rules"]:
                targets = self.events.list_targets_by_rule(Rule=rule["Name"], EventBusName=bus)["Targets"]
                copies = [{**target, "Id": f"copy-of-{target['Id']}", "Arn": arn} for target in targets]
                self.events.put_targets(Rule=rule["Name"], EventBusName=bus, Targets=copies)

    def look_for_configurations(self):
        """A runner's configuration is that runner: nothing that is kept may hold one, or a part of one."""
        pairs = [pair for task in self.tasks().values() for override in task["overrides"]["containerOverrides"]
                 for pair in override["environment"]]
        secret = {pair["value"] for pair in pairs if pair["name"] == "ACTIONS_RUNNER_INPUT_JITCONFIG"}
        copies = self.emptied(self.copies)
        pages = self.aws.client("cloudwatch").get_paginator("list_metrics").paginate()
        kept = {
            "queues": copies,
            "dead letters": [f"{body} {reason}" for body, reason in self.dead_letters.values()],
            "dead letters of reconcile": self.emptied(self.stack["LifecycleDeadLetterQueueUrl"]),
            "metrics": [json.dumps(page["Metrics"]) for page in pages],
            **{name: self.logged(name) for name in ("webhook", "dispatch", "reconcile")},
        }
        if len(secret) < len(self.jobs) // 2 or not any("STOPPED" in copy for copy in copies) or not kept["dispatch"]:
            raise Failure("there is nothing to look for, or nothing to look at")
        # All of them begin alike.
        parts = {text[at:at + 24] for text in secret for at in range(len(text) // 2, len(text) - 24, 24)}
        for place, texts in kept.items():
            if any(part in text for text in texts for part in parts):
                raise Failure(f"a runner's configuration is in the {place}")
        say(f"none of {len(secret)} runners' configurations is in {sum(map(len, kept.values()))} messages, letters, log lines and metrics")

    def emptied(self, queue):
        """The bodies of a queue, which has none afterwards."""
        bodies = []
        while found := self.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for message in found:
                bodies.append(message["Body"])
                self.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    def stop_everything(self):
        """What `make stop` does, to a stack that is at rest."""
        done = list(stop(self.aws.client, STACK, at_work=0))
        alive = self.ecs.list_tasks(cluster=self.stack["ClusterName"], desiredStatus="RUNNING")["taskArns"]
        if alive:
            raise Failure(f"make stop left {len(alive)} tasks")
        say(f"make stop: {sum('stopped' in line for line in done)} tasks stopped, and no function starts another")

    # -- What GitHub and ECS do --------------------------------------------------------------------------

    def deliver(self, payload, again=False):
        """GitHub's part: a signed delivery to the function URL."""
        self.github.set_job(payload)
        body = json.dumps(payload).encode()
        status, answer = request("POST", self.aws.endpoint, body, {
            # The local AWS has one port for everything, and tells function URLs apart by the host.
            "Host": urlsplit(self.stack["WebhookUrl"]).netloc,
            "Content-Type": "application/json",
            "X-GitHub-Event": "workflow_job",
            "X-GitHub-Delivery": str(uuid.uuid4()),
            "X-Hub-Signature-256": "sha256=" + hmac.new(self.webhook_secret, body, hashlib.sha256).hexdigest(),
        })
        job, answer = payload["workflow_job"], json.loads(answer)["message"]
        say(f"GitHub: {payload['action']} {job['name']}{' again' if again else ''} -> {status} {answer}")
        self.answers[job["id"]] = answer
        if status not in (200, 202):
            raise Failure(f"the webhook answered {status}")

    def queue_poison(self):
        """The webhook lets nothing like this through; a queue can still get it from elsewhere."""
        self.sqs.send_message(QueueUrl=self.stack["JobQueueUrl"], MessageBody=POISON)
        say("someone: puts a message that is no job on the queue")

    def what_comes_next(self):
        for job in list(self.jobs):
            if job.story == TWICE:
                self.deliver(payload_of(job), again=True)
            elif job.story == CANCELLED:
                self.deliver(payload_of(job, "completed", conclusion="cancelled"))
            elif job.story == DIES:
                self.let_die(self.tasks()[job.id, 1], DIES)
            elif job.story == INTERRUPTED:
                self.interrupt(job)

    def interrupt(self, job):
        """The job runs, and Spot takes its runner back: GitHub fails it, and has it run again when it is asked to."""
        name = f"fargate-{job.id}-1"
        runner = next(it["id"] for it in self.github.call("GET", "/_world/runners") if it["name"] == name)
        self.github.call("POST", f"/_world/runners/{runner}", {"online": True})
        self.deliver(payload_of(job, "in_progress", runner_id=runner, runner_name=name))
        tagged = wait_until("the tag of the job that runs", lambda: (it := self.tasks()[job.id, 1])["tags"].get("gha:ran-job") and it,
                            SETTLE_SECONDS)
        over = {"id": job.id, "status": "completed", "conclusion": "failure"}
        self.let_die(tagged, INTERRUPTED, SIGTERM_EXIT_CODE, then=lambda: self.github.call("POST", "/_world/jobs", over))
        again = wait_until("GitHub's second attempt", self.second_attempt, SETTLE_SECONDS)
        say(f"author: asked GitHub to run {job.name} again; GitHub: attempt {again['run_attempt']}, job {again['id']}")
        new = replace(job, id=again["id"], story=AGAIN, capacity="FARGATE")
        self.jobs.insert(self.jobs.index(job) + 1, new)
        self.deliver(payload_of(new, run_id=again["run_id"], run_attempt=again["run_attempt"]))

    def second_attempt(self):
        return next((job for job in self.github.call("GET", "/_world/jobs") if job["run_attempt"] == 2), None)

    def show_checks(self):
        """What the authors of jobs read at GitHub."""
        def written():
            checks = {check["name"]: check for check in self.github.call("GET", "/_world/checks")}
            return checks if len(checks) == 3 else None

        for name, check in sorted(wait_until("the checks of three jobs", written, SETTLE_SECONDS).items()):
            title, summary = check["output"]["title"], html.unescape(check["output"]["summary"])
            lines = [line for line in re.sub("</?code>", "`", summary).splitlines() if line]
            print(f"\nCheck \"{name}\": {check['conclusion']}\n  {title}\n" + "\n".join(f"  | {line}" for line in lines), flush=True)
        print(flush=True)

    def image_grows_old(self):
        """From now on GitHub refuses the pinned image's version: its runners exit at once, until it is mended."""
        refused = [job for job in self.jobs if job.story == REFUSED]
        for job in refused:
            self.deliver(payload_of(job))
        for job in refused:
            task = wait_until(f"a task for {job.name}", lambda: self.tasks().get((job.id, 1)), SETTLE_SECONDS)
            self.let_die(task, REFUSED, REFUSED_EXIT_CODE)
        errors = wait_until("the reason in reconcile's log", lambda: self.errors(len(refused)), SETTLE_SECONDS)
        for error in errors:
            say(f"reconcile: ERROR job {error['job']}: {error['why']}: {error['message']}")
        self.aws.redeploy(self.parameters | {"RunnerImage": ""})
        definition = self.ecs.describe_task_definition(taskDefinition=task["taskDefinitionArn"].rsplit(":", 1)[0])
        self.newest_image = definition["taskDefinition"]["containerDefinitions"][0]["image"]
        say(f"operator: RunnerImage is {self.newest_image} from now on; the jobs that wait start by themselves")

    def errors(self, count):
        """The errors that reconcile has logged, once there are so many."""
        errors = [error for line in self.logged("reconcile") if line.startswith("{") and (error := json.loads(line)).get("level") == "ERROR"]
        return errors if len(errors) >= count else None

    def logged(self, function):
        pages = self.logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{STACK}/{function}")
        return [event["message"] for page in pages for event in page["events"]]

    def let_die(self, task, story, exit_code=None, then=lambda: None):
        """ECS's part: the task stops, whatever comes of it `then`, and ECS says so on the default bus."""
        self.ecs.stop_task(cluster=self.stack["ClusterName"], task=task["taskArn"])
        then()
        event = json.loads((ROOT / "tests" / "fixtures" / "ecs" / "task-stopped.json").read_text())
        detail, container = event["detail"], event["detail"]["containers"][0]
        # RunTask's overrides are in it, and in them the runner's configuration.
        same = ("taskArn", "clusterArn", "startedBy", "taskDefinitionArn", "overrides")
        detail |= {key: task[key] for key in same} | ENDS[story]
        del container["reason"]
        container["image"] = image(task)
        if exit_code is not None:
            detail["startedAt"], container["exitCode"] = detail["createdAt"], exit_code
        self.pass_on(event)
        code = "" if exit_code is None else f", exit code {exit_code}"
        say(f"ECS: {task['tags']['gha:runner-name']} has stopped: {detail['stoppedReason']}{code}")

    def pass_on(self, event):
        """The default bus's part. It takes events of AWS's services from nobody else, so the stack's rules are
        asked whether they match, and those that do are played on a bus of ours, targets and all."""
        rules = [rule for rule in self.events.list_rules()["Rules"] if "EventPattern" in rule
                 if self.events.test_event_pattern(EventPattern=rule["EventPattern"], Event=json.dumps(event))["Result"]]
        if not rules:
            raise Failure(f"no rule of the stack matches {event['detail-type']}")
        bus = "default-bus"
        if bus not in [known["Name"] for known in self.events.list_event_buses()["EventBuses"]]:
            self.events.create_event_bus(Name=bus)
        for name in [rule["Name"] for rule in rules]:
            targets = self.events.list_targets_by_rule(Rule=name)["Targets"]
            self.events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps({"source": ["ours"]}))
            self.events.put_targets(Rule=name, EventBusName=bus, Targets=targets)
        self.events.put_events(Entries=[{"EventBusName": bus, "Source": "ours", "DetailType": event["detail-type"],
                                         "Detail": json.dumps(event["detail"])}])

    # -- What there is, and what there should be ---------------------------------------------------------

    def tasks(self):
        """Every task that was ever started, by job and attempt."""
        cluster = self.stack["ClusterName"]
        arns = [arn for status in ("RUNNING", "STOPPED")
                for arn in self.ecs.list_tasks(cluster=cluster, desiredStatus=status)["taskArns"]]
        if not arns:
            return {}
        found = {}
        for task in self.ecs.describe_tasks(cluster=cluster, tasks=arns, include=["TAGS"])["tasks"]:
            task["tags"] = {tag["key"]: tag["value"] for tag in task["tags"]}
            key = int(task["tags"]["gha:job-id"]), int(task["tags"]["gha:attempt"])
            if key in found:
                raise Failure(f"two tasks for job {key[0]}, attempt {key[1]}")
            found[key] = task
        return found

    def read_dead_letters(self):
        """Rejected messages with their reasons. They stay in the queue; each is looked at once."""
        answer = self.sqs.receive_message(QueueUrl=self.stack["JobDeadLetterQueueUrl"], MaxNumberOfMessages=10,
                                          MessageAttributeNames=["All"])
        for message in answer.get("Messages", []):
            reason = message.get("MessageAttributes", {}).get("reason", {}).get("StringValue", "no reason given")
            self.dead_letters[message["MessageId"]] = (message["Body"], reason)

    def queues_empty(self):
        counts = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible",
                  "ApproximateNumberOfMessagesDelayed")
        for queue in filter(self.stack.get, ("JobQueueUrl", "LifecycleQueueUrl", "AuthorQueueUrl")):
            answer = self.sqs.get_queue_attributes(QueueUrl=self.stack[queue], AttributeNames=list(counts))
            if any(answer["Attributes"][count] != "0" for count in counts):
                return False
        return True

    def expected(self, first):
        """Tasks, registrations and the number of dead letters, before (`first`) or after what comes next."""
        tasks, registrations = {}, set()
        for job in self.jobs:
            if job.story in (SKIPPED, REJECTED) or first and job.story == REFUSED:
                continue
            states = ["RUNNING"] if first else AT_THE_END.get(job.story, ["RUNNING"])
            for attempt, state in enumerate(states, 1):
                runs = PINNED if attempt == 1 and job.story != AGAIN else self.newest_image
                tasks[job.id, attempt] = (state, job.vcpu, job.gib, job.capacity, runs, job.chosen)
                if state == "RUNNING" and self.minted:
                    registrations.add(f"fargate-{job.id}-{attempt}")
        rejected = sum(job.story == REJECTED for job in self.jobs) + 1
        return tasks, registrations, rejected

    def actual(self):
        self.read_dead_letters()
        tasks = {key: (task["lastStatus"], *size(task), task["capacityProviderName"], image(task), task["tags"].get("gha:class"))
                 for key, task in self.tasks().items()}
        return tasks, self.github.registrations(), len(self.dead_letters)

    def settle(self, what, first=False):
        """Watches until everything is as it should be and no message is on its way any more."""
        wanted, shown = self.expected(first), None

        def settled():
            nonlocal shown
            actual = self.actual()
            tasks = actual[0]
            if tasks != shown:
                missing = [key for key, task in wanted[0].items() if tasks.get(key) != task]
                names = {job.id: job.name for job in self.jobs}
                still = ", ".join(names[id_] for id_, _ in missing) or "queues that are empty"
                say(f"waiting for {what}: {len(wanted[0]) - len(missing)} of {len(wanted[0])} tasks; still for {still}")
                shown = tasks
            return actual == wanted and self.queues_empty()

        try:
            wait_until(what, settled, SETTLE_SECONDS, pause=0.2)
        except Failure as failure:
            names = ("tasks", "registrations", "dead letters")
            differences = [f"  {name}: {is_}\n  should be: {should}" for name, is_, should
                           in zip(names, self.actual(), wanted) if is_ != should]
            print(self.table(), file=sys.stderr)
            raise Failure("\n".join([str(failure), *(differences or ["  a message is still in a queue"])])) from None

    def table(self):
        tasks, registrations = self.tasks(), self.github.registrations()
        rows = [("JOB", "LABELS (+ self-hosted)", "CLASS", "TASK", "vCPU/GiB", "CAPACITY", "REGISTRATION", "OUTCOME")]
        for job in self.jobs:
            labels = " ".join(job.labels[1:])
            mine = [(attempt, task) for (id_, attempt), task in sorted(tasks.items()) if id_ == job.id]
            if not mine:
                rows.append((job.name, labels, *["-"] * 5, self.why_not(job)))
            for attempt, task in mine:
                runner = f"fargate-{job.id}-{attempt}"
                state = (runner if runner in registrations else "deleted") if self.minted else "by its container"
                rows.append((job.name if attempt == 1 else "", labels if attempt == 1 else "", task["tags"].get("gha:class", "-"),
                             f"{task['taskArn'].rsplit('/', 1)[-1][:8]} {task['lastStatus'].lower()}",
                             "{:g}/{:g}".format(*size(task)), task["capacityProviderName"], state,
                             self.outcome(job, attempt, task)))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        letters = [f"  {reason}\n    {summary(body)}" for body, reason in self.dead_letters.values()]
        return "\n" + "\n".join([*lines, "", f"Dead letters: {len(letters)}", *letters]) + "\n"

    def outcome(self, job, attempt, task):
        if job.story == REFUSED:
            return "the mended image" if attempt > 1 else "refused: its image was too old"
        if job.story in (INTERRUPTED, AGAIN):
            return "taken back by Spot" if job.story == INTERRUPTED else "the same job again, on demand"
        if attempt > 1:
            return "replaces the runner that died"
        if task["lastStatus"] == "STOPPED":
            return "retired: its job was cancelled" if job.story == CANCELLED else "died before it took a job"
        return "delivered twice, one task" if job.story == TWICE else "one task"

    def why_not(self, job):
        if job.story == REJECTED:
            return "rejected: see dead letters"
        return self.answers[job.id]


def payload_of(job, action="queued", **changes):
    """GitHub's recorded payload, with what makes it this job, now."""
    payload = copy.deepcopy(RECORDED)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    url = payload["workflow_job"]["url"].rsplit("/", 1)[0]
    payload["action"] = action
    payload["workflow_job"] |= {"id": job.id, "name": job.name, "labels": list(job.labels), "status": action,
                                "url": f"{url}/{job.id}", "created_at": now, "started_at": now, **changes}
    return payload


RECORDED = json.loads((ROOT / "events" / "queued.json").read_text())


def size(task):
    """vCPU and GiB of a task. Real ECS states what the overrides made of it, the local one does not."""
    asked = task.get("overrides", {})
    return int(asked.get("cpu", task["cpu"])) / 1024, int(asked.get("memory", task["memory"])) / 1024


def image(task):
    return task["containers"][0]["image"]


def summary(body):
    """A rejected message in a few words."""
    if body == POISON:
        return body
    payload = json.loads(body)
    job = payload.get("detail", payload)["workflow_job"]
    return f"job {job['id']} {job['name']}: {' '.join(job['labels'])}"


if __name__ == "__main__":
    main()

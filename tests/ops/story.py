"""A story on a local AWS whose time is its own: what the functions print counts for the minute that the story is at.

What AWS tells of itself (errors, throttles, what lies on a queue, the quota) is told by who tells the story.
"""

import hashlib
import hmac
import json
import sys
import time
import uuid
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

from alarms import Metrics, is_firing
from local import ROOT, STACK, LocalStack, nobody

import stack as stacks
from demo import GitHub, Job, payload_of
from local_aws import request

sys.path.append(str(ROOT / "tests" / "template"))
from policies import Stack  # noqa: E402

FUNCTIONS = {f"{name}FunctionName": f"{name}Function" for name in ("Webhook", "Dispatch", "Reconcile", "Author", "Redeliver")}
LATE_SECONDS = 10
ORDINARY = ("self-hosted", "fargate")


class Story(LocalStack):
    # Other parameters of the stack.
    MORE = {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.github = cls.enterClassContext(GitHub(cls.aws.log))

    def setUp(self):
        given = {"Organization": "octo-org", "GitHubApiUrl": self.github.url, "GitHubSecretArn": "", "MaxRunners": "0",
                 "AlarmTopicArn": "", **self.MORE}
        self.deploy(given, nobody)
        self.outputs = stacks.outputs(stacks.find(self.client, STACK))
        self.logical = {self.outputs[key]: name for key, name in FUNCTIONS.items()}
        template = Stack(ROOT / "template.yaml", Organization="octo-org")
        self.alarms = {name: template.resolve(it["Properties"]) for name, it in template.template["Resources"].items()
                       if it["Type"] == "AWS::CloudWatch::Alarm"}
        self.metrics, self.minute, self.heard, self.fired, self.said = Metrics(), 0, set(), set(), []
        self.printed = []
        self.id = 2832853700
        self.secret = self.client("secretsmanager").get_secret_value(SecretId=self.outputs["WebhookSecretName"])["SecretString"].encode()
        # The sweep comes when the story says so.
        for rule in self.client("events").list_rules()["Rules"]:
            if "ScheduleExpression" in rule:
                self.client("events").disable_rule(Name=rule["Name"])

    # -- The story's time -------------------------------------------------------------------------------

    def hear(self):
        """What the functions have printed since counts for now."""
        logs = self.client("logs")
        for name in ("webhook", "dispatch", "reconcile"):
            pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{STACK}/{name}")
            for number, line in enumerate(event["message"] for page in pages for event in page["events"]):
                if (name, number) not in self.heard:
                    self.heard.add((name, number))
                    self.said.append(line[:600])
                    self.printed.append((name, self.minute, line))
                    self.metrics.read(line, self.minute, lambda function: f"arn:aws:lambda:eu-west-1:111122223333:function:{self.logical[function]}")

    def tell(self, namespace, metric, value, **dimensions):
        self.metrics.add(namespace, metric, dimensions, self.minute, value)

    def of_aws(self, function, metric, value):
        self.tell("AWS/Lambda", metric, value, FunctionName=f"arn:aws:lambda:eu-west-1:111122223333:function:{function}")

    def firing_now(self):
        return {name.removesuffix("Alarm") for name, alarm in self.alarms.items() if is_firing(alarm, self.metrics, self.minute + 1)}

    def firing(self, *expected, what):
        # A function's last lines may come after its answer.
        until = time.monotonic() + LATE_SECONDS
        while True:
            self.hear()
            now = self.firing_now()
            if now == set(expected) or time.monotonic() > until:
                break
            time.sleep(0.2)
        if now != set(expected):
            self.fail(f"{what}: fires {now}, should {set(expected)}\n" + "\n".join(self.said[-12:]))
        self.fired |= now

    def later(self, minutes, sweeps=True):
        """So much later, with a sweep every five minutes and a look, which the story does not tell of."""
        arn = "arn:aws:lambda:eu-west-1:111122223333:function:"
        for _ in range(minutes):
            self.minute += 1
            if sweeps and self.minute % 5 == 0:
                self.tell("GhaFargateRunners", "Swept", 1, FunctionName=f"{arn}ReconcileFunction")
                self.tell("GhaFargateRunners", "Redelivered", 0, FunctionName=f"{arn}RedeliverFunction")

    # -- What happens ------------------------------------------------------------------------------------

    def invoke(self, key, event):
        answer = self.client("lambda").invoke(FunctionName=self.outputs[key], Payload=json.dumps(event).encode())
        if failed := answer.get("FunctionError"):
            self.of_aws(FUNCTIONS[key], "Errors", 1)
        return failed

    def message(self, body, queue, age=0):
        """A batch of one message, as Lambda hands it over, sent `age` seconds ago."""
        sent = str(int((time.time() - age) * 1000))
        record = {"messageId": str(uuid.uuid4()), "receiptHandle": "x", "body": json.dumps(body), "messageAttributes": {},
                  "attributes": {"ApproximateReceiveCount": "9", "SentTimestamp": sent, "SenderId": "x",
                                 "ApproximateFirstReceiveTimestamp": sent},
                  "eventSource": "aws:sqs", "eventSourceARN": f"arn:aws:sqs:us-east-1:000000000000:{queue}", "awsRegion": "us-east-1"}
        return {"Records": [record]}

    def job(self, *labels):
        self.id += 1
        payload = payload_of(Job(self.id, "build", labels or ORDINARY, "runs"))
        self.github.set_job(payload)
        return payload

    def dispatch(self, payload, age=0):
        return self.invoke("DispatchFunctionName", self.message(payload, "git-actions-wf-job-queue", age))

    def reconcile(self, event, age=0):
        return self.invoke("ReconcileFunctionName", self.message(event, "git-actions-wf-job-queue-lifecycle", age))

    def sweep(self):
        return self.reconcile(self.scheduled("reconcile-schedule"))

    def look(self):
        """For failed deliveries."""
        return self.invoke("RedeliverFunctionName", self.scheduled("reconcile-redeliver"))

    @staticmethod
    def scheduled(name):
        event = json.loads((ROOT / "events" / f"{name}.json").read_text())
        return event | {"time": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")}

    def deliver(self, payload, secret):
        body, event = json.dumps(payload).encode(), "workflow_job" if "workflow_job" in payload else "ping"
        return request("POST", self.aws.endpoint, body, {
            "Host": urlsplit(self.outputs["WebhookUrl"]).netloc, "Content-Type": "application/json", "X-GitHub-Event": event,
            "X-GitHub-Delivery": str(uuid.uuid4()),
            "X-Hub-Signature-256": "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()})[0]

    def set(self, key, **variables):
        """Other settings for a function, which starts anew with them; None takes one away."""
        functions, name = self.client("lambda"), self.outputs[key]
        now = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        now = {variable: value for variable, value in (now | variables).items() if value is not None}
        now["STORY"] = str(self.minute)
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": now})
        functions.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})

    def letters(self):
        for queue in ("JobDeadLetterQueueUrl", "LifecycleDeadLetterQueueUrl"):
            count = self.client("sqs").get_queue_attributes(
                QueueUrl=self.outputs[queue], AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
            self.tell("AWS/SQS", "ApproximateNumberOfMessagesVisible", int(count["ApproximateNumberOfMessages"]),
                      QueueName=self.outputs[queue].rsplit("/", 1)[1])

    def give_app(self, credentials):
        self.client("secretsmanager").put_secret_value(SecretId=self.outputs["GitHubSecretArn"], SecretString=credentials)
        for key in ("DispatchFunctionName", "ReconcileFunctionName", "RedeliverFunctionName"):
            self.set(key)

    def task_of(self, payload):
        ecs, job = self.client("ecs"), payload["workflow_job"]["id"]
        arns = ecs.list_tasks(cluster=self.outputs["ClusterName"], startedBy=f"gha-{job}")["taskArns"]
        return ecs.describe_tasks(cluster=self.outputs["ClusterName"], tasks=arns)["tasks"][0] if arns else None

    def takes(self, payload):
        """The job's runner has come up and takes it, and GitHub says so."""
        job = payload["workflow_job"]["id"]
        runner, = (it for it in self.github.call("GET", "/_world/runners") if str(job) in it["name"])
        self.github.call("POST", f"/_world/runners/{runner['id']}", {"online": True, "job": job})
        payload["workflow_job"] |= {"status": "in_progress", "runner_id": runner["id"], "runner_name": runner["name"]}
        self.assertEqual(self.deliver(payload | {"action": "in_progress"}, self.secret), 202)
        self.reconcile(payload | {"action": "in_progress"})

    def ends(self, payload, task, dies=False):
        """Its runner is done with the job, or goes with it; ECS says so."""
        ecs, runner = self.client("ecs"), payload["workflow_job"]["runner_id"]
        if not dies:
            self.github.call("POST", f"/_world/runners/{runner}", {"busy": False})
        ecs.stop_task(cluster=self.outputs["ClusterName"], task=task["taskArn"])
        event = json.loads((ROOT / "tests" / "fixtures" / "ecs" / "task-stopped.json").read_text())
        now = datetime.now(timezone.utc)
        event["detail"] |= {key: task[key] for key in ("taskArn", "clusterArn", "startedBy", "taskDefinitionArn")}
        event["detail"] |= {"startedAt": (now - timedelta(minutes=5)).isoformat(), "stopCode": "EssentialContainerExited",
                            "stoppedReason": "Essential container in task exited", "containers": [{"exitCode": 0}]}
        if dies:
            event["detail"] |= {"stopCode": "SpotInterruption", "stoppedReason": "Your Spot Task was interrupted.",
                                "containers": [{"exitCode": 137}]}
        self.reconcile(event)

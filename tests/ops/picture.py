"""Six hours of a fleet on a local AWS, and its dashboard then, for docs/operate.md. What `make dashboard-picture` runs.

Every number of ours in it is one that the functions printed. What AWS tells of itself is told by what there is here.
"""

import random
import unittest
from datetime import datetime, timedelta, timezone

from dashboard import Dashboard, parsed
from local import ROOT
from story import Story

from demo import Job, payload_of
from policies import Stack

PICTURE = ROOT / "docs" / "pictures" / "dashboard.svg"
HOURS, PERIOD = 6, 5
LABELS = [("self-hosted", "fargate"), ("self-hosted", "fargate", "cpu=2"), ("self-hosted", "fargate", "cpu=4", "ram=16")]
# Periods: GitHub does not answer; MaxRunners is too low; a secret of GitHub's is another; a job asks for too much.
OUTAGE, LIMITED, FORGERY, TOO_LARGE = range(20, 26), range(44, 50), 33, 56


class Picture(Story):
    def test_of_six_hours(self):
        self.chance, self.running, self.waiting = random.Random(1), [], []
        self.give_app(self.github.credentials())
        # Dispatch comes when the story says so.
        for mapping in self.client("lambda").list_event_source_mappings(FunctionName=self.outputs["DispatchFunctionName"])["EventSourceMappings"]:
            self.client("lambda").update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        for period in range(HOURS * 60 // PERIOD):
            self.trouble(period)
            for _ in range(self.chance.randint(1, 2) + (2 if 12 < period < 60 else 0)):
                self.comes()
            self.turns(period)
            self.sweep()
            self.look()
            self.usage()
            self.hear()
            self.later(PERIOD, sweeps=False)
        self.minute -= 1
        widgets = Stack(ROOT / "template.yaml", Organization="octo-org").dashboard()
        lines = [(minute, line) for name, minute, text in self.printed if name == "reconcile" and (line := parsed(text))]
        PICTURE.write_text(Dashboard(widgets, self.metrics, lines, self.firing_now(), self.minute + 1, HOURS).svg(), encoding="utf-8")

    def trouble(self, period):
        if period in (OUTAGE.start, OUTAGE.stop):
            self.set("DispatchFunctionName", GITHUB_API_URL="http://127.0.0.1:9" if period in OUTAGE else self.github.url)
        if period in (LIMITED.start, LIMITED.stop):
            self.set("DispatchFunctionName", MAX_RUNNERS="8" if period in LIMITED else "0")
        if period == FORGERY:
            self.deliver({"zen": "Keep it logically awesome."}, b"another")
        if period == TOO_LARGE:
            self.dispatch(self.job("self-hosted", "fargate", "cpu=64"))
        self.letters()

    def comes(self):
        """A job is queued at GitHub, and the webhook hears of it; dispatch does when it is its turn."""
        self.id += 1
        payload = payload_of(Job(self.id, "build", self.chance.choice(LABELS), "runs"))
        self.github.set_job(payload)
        self.assertEqual(self.deliver(payload | {"action": "queued"}, self.secret), 202)
        self.waiting.append((self.minute, payload))

    def turns(self, period):
        """Jobs get their tasks, a few minutes later they are over; one in twenty goes with its task, one is cancelled."""
        for began, payload in list(self.waiting):
            age = (self.minute - began) * 60
            queued = datetime.now(timezone.utc) - timedelta(seconds=age)
            payload["workflow_job"]["created_at"] = queued.strftime("%Y-%m-%dT%H:%M:%SZ")
            self.dispatch(payload, age)
            if task := self.task_of(payload):
                self.waiting.remove((began, payload))
                self.running.append((self.minute + self.chance.choice([5, 10, 10, 20, 30]), payload, task))
                self.takes(payload)
        for ends, payload, task in list(self.running):
            if ends <= self.minute:
                self.running.remove((ends, payload, task))
                self.ends(payload, task, dies=self.chance.random() < 0.05)

    def usage(self):
        """What AWS would tell of the account, by what runs here."""
        sizes = {"cpu=2": 2, "cpu=4": 4}
        labels = [payload["workflow_job"]["labels"] for _, payload, _ in self.running]
        vcpus = sum(sizes.get(label, 0) for of_job in labels for label in of_job) + sum(len(of_job) == 2 for of_job in labels)
        for kind, value in (("OnDemand", vcpus), ("Spot", 0)):
            self.tell("AWS/Usage", "ResourceCount", value, Service="Fargate", Type="Resource", Resource="vCPU", Class=f"Standard/{kind}")
        self.tell("AWS/SQS", "ApproximateNumberOfMessagesNotVisible", len(self.waiting), QueueName="git-actions-wf-job-queue")


if __name__ == "__main__":
    unittest.main()

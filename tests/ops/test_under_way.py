"""A stack is updated, drained and deleted while jobs come, run and end, and none is lost. What runs is played: a stub of a
runner takes each job from the GitHub stand-in once its task is there. All between is as it is: webhook, bus, queues, functions."""

import json
import unittest

from local import STACK, wait_until
from story import Story
from test_in_place import GIVEN, UPDATES

import delete as deleting
import stack as stacks
import stop as stopping

# With these values nothing can be started here (the document of classes is not there, the share is used up), so jobs wait until
# they are as they were.
AWAY = {"GitHubApiUrl", "HttpsProxy", "NoProxy", "RunnerGroupId", "RunnerScope", "Organization", "FrontDoor", "RunnerClasses",
        "MaxRunnersPerRepository"}
# And with these the webhook is not where GitHub looks for it.
UNHEARD = {"HttpsProxy", "FrontDoor"}
# As slow as a machine may be, and as long as a deferred job's message may be hidden.
SECONDS = 300


class UnderWay(Story):
    MORE = {name: GIVEN[name] for name in ("SubnetIds", "SecurityGroupIds")}

    def test_no_job_is_lost(self):
        self.jobs, self.taken = {}, {}
        self.give_app(self.github.credentials())
        first = self.comes()
        self.serve()
        for update in UPDATES:
            served = {name: value for name, value in update.items() if name not in AWAY}
            # Jobs of both kinds of label are served, before and after.
            served |= {"RunnerLabels": "self-hosted,fargate,ours"} if "RunnerLabels" in served else {}
            before = self.comes()
            if served:
                self.deploy(served)
            self.comes()
            self.serve()
            self.over(before)
        self.nothing_can_be_started()
        self.assertIn(first, self.taken, "it runs since before the first update, and still does")
        self.drained_and_deleted(first)

    # -- What GitHub and the runners do ------------------------------------------------------------------

    def comes(self):
        """GitHub queues a job, and the webhook hears of it: its number. One of a moment ago may have no answer yet of who keeps
        its secret, and says 503: then GitHub is asked to send it again."""
        payload = self.job()
        self.jobs[self.id] = payload
        wait_until("the webhook's 202", lambda: self.deliver(payload | {"action": "queued"}, self.secret) == 202, SECONDS)
        return self.id

    def serve(self):
        """Until each job that waits has a task of its own, and its runner the job."""
        def all_have_theirs():
            for number in self.jobs.keys() - self.taken.keys():
                if task := self.task_of(self.jobs[number]):
                    self.takes(self.jobs[number])
                    self.taken[number] = task
            return self.jobs.keys() == self.taken.keys()

        wait_until("a task for each job", all_have_theirs, SECONDS)

    def over(self, number):
        self.ends(self.jobs.pop(number), self.taken.pop(number))

    def at_github(self, number):
        return next(job["status"] for job in self.github.call("GET", "/_world/jobs") if job["id"] == number)

    def alive(self):
        return set(stacks.tasks(self.client, stacks.find(self.client, STACK)))

    # -- The story ---------------------------------------------------------------------------------------

    def nothing_can_be_started(self):
        running = {task["taskArn"] for task in self.taken.values()}
        now = stacks.parameters(stacks.find(self.client, STACK))
        for update in UPDATES:
            away = {name: value for name, value in update.items() if name in AWAY}
            if not away:
                continue
            self.deploy(away)
            waits = self.comes() if not away.keys() & UNHEARD else None
            self.assertEqual(self.alive() & running, running, "what runs goes on")
            if waits:
                self.assertIsNone(self.task_of(self.jobs[waits]))
            self.deploy({name: now[name] for name in away})
            self.outputs = stacks.outputs(stacks.find(self.client, STACK))  # a door that was made anew has another URL
            self.serve()

    def drained_and_deleted(self, last):
        for number in self.jobs.keys() - {last}:
            self.over(number)
        drain = stopping.drain(self.client, STACK, at_work=0, look_again=0.1)
        lines = []
        while not lines or not lines[-1].endswith("tasks are left"):
            lines.append(next(drain))
        self.assertEqual(lines[-1], "1 tasks are left")
        waits = self.comes()
        self.assertEqual(self.at_github(last), "in_progress", "it is not disturbed")
        self.over(last)
        self.assertIn("1 jobs wait", list(drain)[-1])
        self.assertEqual(self.alive(), set())
        queue = self.outputs["JobQueueUrl"]
        list(deleting.delete(self.client, STACK, lambda _: None, at_work=0, look_again=0.1))
        message, = self.client("sqs").receive_message(QueueUrl=queue, VisibilityTimeout=0)["Messages"]
        self.assertEqual(json.loads(message["Body"])["detail"]["workflow_job"]["id"], waits, "the one that waits, and it is kept")
        ended = {job["id"]: job for job in self.github.call("GET", "/_world/jobs")}
        self.assertEqual({number: job["conclusion"] for number, job in ended.items() if number != waits},
                         {number: "success" for number in ended if number != waits}, "every other one ran, once")


if __name__ == "__main__":
    unittest.main()

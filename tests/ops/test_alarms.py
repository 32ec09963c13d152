"""Each alarm of the stack fires and clears, by what the functions print in a story on a local AWS."""

import json
import threading
import unittest
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from local import ROOT, STACK
from story import Story

import logs
import stack as stacks

HOUR = 3600


class OlderTasks:
    """ECS as it is, but that every task was created an hour ago."""

    def __init__(self, endpoint):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                passed_on = {name: self.headers[name] for name in ("X-Amz-Target", "Content-Type", "Authorization", "X-Amz-Date")}
                try:
                    with urllib.request.urlopen(urllib.request.Request(endpoint, body, passed_on)) as answer:
                        status, body = answer.status, answer.read()
                except urllib.error.HTTPError as error:
                    status, body = error.code, error.read()
                found = json.loads(body or "{}")
                for task in found.get("tasks", []):
                    task["createdAt"] -= HOUR
                body = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Alarms(Story):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.older = cls.enterClassContext(OlderTasks(cls.aws.endpoint))

    def test_each_fires_and_clears(self):
        self.without_an_app()
        self.credentials_come()
        self.the_webhook()
        self.functions_that_do_not_start()
        self.jobs_that_wait()
        self.a_job_that_is_rejected()
        self.jobs_that_are_lost()
        self.more_than_an_hour_should_cost()
        self.events_that_wait()
        self.what_aws_tells()
        self.assertEqual(self.fired, {name.removesuffix("Alarm") for name in self.alarms})

    def without_an_app(self):
        self.firing("NoSweep", "NoRedelivery", what="a stack without a sweep, and without a look")
        self.dispatch(self.job())
        self.sweep()
        self.look()
        self.firing("NoSweep", "DispatchNeedsOperator", "ReconcileNeedsOperator", "RedeliverNeedsOperator",
                    what="its secret holds a placeholder, and a look has looked")

    def credentials_come(self):
        self.give_app(self.github.credentials())
        self.later(5, sweeps=False)
        self.dispatch(self.job())
        self.sweep()
        self.look()
        self.firing("DispatchNeedsOperator", "ReconcileNeedsOperator", "RedeliverNeedsOperator", what="one sweep is enough, and one look")
        self.later(21)
        self.firing(what="twenty minutes without a word of a repair")

    def the_webhook(self):
        ping = {"zen": "Keep it logically awesome.", "hook_id": 1}
        for _ in range(3):
            self.assertEqual(self.deliver(ping, b"another"), 401)
        self.firing("RefusedSignatures", what="three, and none that is right")
        secret = self.client("secretsmanager").get_secret_value(SecretId=self.outputs["WebhookSecretName"])["SecretString"].encode()
        self.assertEqual(self.deliver(ping, secret), 200)
        self.firing(what="GitHub has the right one")
        arn = self.outputs["WebhookSecretArn"]
        self.set("WebhookFunctionName", WEBHOOK_SECRET_ARN=f"{arn}-gone")
        self.assertEqual(self.deliver(ping, secret), 503)
        self.firing("WebhookFailures", what="the secret cannot be read")
        self.set("WebhookFunctionName", WEBHOOK_SECRET_ARN=arn)
        self.later(5)
        self.assertEqual(self.deliver(ping, secret), 200)
        self.firing(what="it can again")

    def functions_that_do_not_start(self):
        for function, setting in (("Dispatch", "MAX_ATTEMPTS"), ("Reconcile", "MAX_ATTEMPTS"), ("Redeliver", "MAX_ATTEMPTS"),
                                  ("Author", "RERUN_INTERRUPTED")):
            key, good = f"{function}FunctionName", {"MAX_ATTEMPTS": "5", "RERUN_INTERRUPTED": "1"}[setting]
            self.set(key, **{setting: "many"})
            self.assertTrue(self.invoke(key, {"Records": []}))
            self.firing(f"{function}Errors", what="a setting is wrong")
            self.set(key, **{setting: good})
            self.later(5)
            self.assertFalse(self.invoke(key, {"Records": []}))
            self.firing(what="it is mended")

    def jobs_that_wait(self):
        self.set("DispatchFunctionName", MAX_RUNNERS="1")
        self.dispatch(self.job(), age=HOUR)
        self.firing(what="it waits for an hour, because of MAX_RUNNERS")
        self.set("DispatchFunctionName", MAX_RUNNERS="0", GITHUB_API_URL="http://127.0.0.1:9")
        self.dispatch(self.job(), age=600)
        self.firing(what="GitHub does not answer, for ten minutes")
        self.dispatch(self.job(), age=HOUR)
        self.firing("JobsWait", what="for an hour")
        self.set("DispatchFunctionName", GITHUB_API_URL=self.github.url)
        self.later(21)
        waits = self.job()
        self.dispatch(waits, age=HOUR)
        self.firing(what="it has got its task")
        self.set("ReconcileFunctionName", AWS_ENDPOINT_URL_ECS=self.older.url)
        self.sweep()
        self.firing("JobsWait", what="and an hour later no runner has come")
        self.set("ReconcileFunctionName", AWS_ENDPOINT_URL_ECS=None)
        self.later(21)
        self.sweep()
        self.firing(what="tasks are young again")
        self.tell("AWS/SQS", "ApproximateAgeOfOldestMessage", 1000, QueueName="git-actions-wf-job-queue")
        self.firing("JobsWait", what="dispatch does not read its queue")
        self.later(21)
        self.firing(what="it does")

    def a_job_that_is_rejected(self):
        self.letters()
        self.firing(what="no letter")
        self.later(5)
        self.dispatch(self.job("self-hosted", "fargate", "cpu=64"))
        self.letters()
        self.firing("DeadLetters", what="a job that asks for too much")
        for _ in range(4):
            self.later(5)
            self.letters()
        self.firing(what="the letter lies there, and no other comes")

    def jobs_that_are_lost(self):
        self.later(61)
        payload = self.job()
        self.dispatch(payload)
        job, ecs, cluster = payload["workflow_job"]["id"], self.client("ecs"), self.outputs["ClusterName"]
        runner, = (it for it in self.github.call("GET", "/_world/runners") if str(job) in it["name"])
        self.github.call("POST", f"/_world/runners/{runner['id']}", {"online": True, "job": job})
        arn, = ecs.list_tasks(cluster=cluster, startedBy=f"gha-{job}")["taskArns"]
        ecs.tag_resource(resourceArn=arn, tags=[
            {"key": "gha:ran-job", "value": str(job)},
            {"key": "gha:ran-repository", "value": payload["repository"]["full_name"]}])
        task, = ecs.describe_tasks(cluster=cluster, tasks=[arn])["tasks"]
        ecs.stop_task(cluster=cluster, task=arn)
        event = json.loads((ROOT / "tests" / "fixtures" / "ecs" / "task-stopped.json").read_text())
        event["detail"] |= {key: task[key] for key in ("taskArn", "clusterArn", "startedBy", "taskDefinitionArn")}
        event["detail"] |= {"stopCode": "SpotInterruption", "stoppedReason": "Your Spot Task was interrupted.",
                            "containers": [{"exitCode": 137}]}
        event["detail"]["startedAt"] = event["detail"]["createdAt"]
        self.reconcile(event)
        self.firing("JobsLost", what="Spot took a task with its job")
        self.its_story(job, arn.rsplit("/", 1)[1])
        self.later(61)
        self.firing(what="an hour without another")

    def more_than_an_hour_should_cost(self):
        """What dispatch has counted is counted again, as often as it takes."""
        function = "arn:aws:lambda:eu-west-1:111122223333:function:DispatchFunction"
        most = int(float(self.alarms["StartedVcpusAlarm"]["Threshold"]))
        self.tell("GhaFargateRunners", "StartedCpuUnits", most * 1024, FunctionName=function)
        self.firing(what="no more than VcpusAnHour")
        self.tell("GhaFargateRunners", "StartedCpuUnits", 1024, FunctionName=function)
        self.firing("StartedVcpus", what="one more")
        self.later(61)
        self.firing(what="an hour without any")

    def its_story(self, job, task):
        """What `make logs` says of a job, and of one that nobody knows."""
        lines = list(logs.story(self.client, STACK, f"https://github.com/octo-org/x/actions/runs/940463255/job/{job}"))
        self.assertIn("dispatch  done  Started", lines[0])
        self.assertTrue(any("reconcile" in line and "is lost with its task" in line for line in lines), lines)
        self.assertTrue(any("its task used" in line for line in lines), lines)
        self.assertTrue(lines[-1].endswith(f"/ecs/gha-jit-self-hosted-fargate-runner --since 14d --log-stream-names ecs/runner/{task}"))
        # The author may have told of it meanwhile.
        self.assertLessEqual(set(lines), set(logs.story(self.client, STACK, str(job))))
        for unknown, why in (("4711", "knows the job 4711"), ("octo-org/x", "the job's number")):
            with self.assertRaisesRegex(stacks.Failure, why):
                list(logs.story(self.client, STACK, unknown))

    def events_that_wait(self):
        self.set("ReconcileFunctionName", GITHUB_API_URL="http://127.0.0.1:9")
        done = self.job()
        done |= {"action": "completed"}
        done["workflow_job"] |= {"status": "completed", "conclusion": "cancelled"}
        self.reconcile(done, age=HOUR)
        self.firing("LifecycleWaits", what="GitHub does not answer")
        self.set("ReconcileFunctionName", GITHUB_API_URL=self.github.url)
        self.later(21)
        self.firing(what="nothing waits")

    def what_aws_tells(self):
        self.of_aws("WebhookFunction", "Throttles", 1)
        vcpus = {"Service": "Fargate", "Type": "Resource", "Resource": "vCPU"}
        self.tell("AWS/Usage", "ResourceCount", 81, **vcpus, Class="Standard/Spot")
        self.tell("AWS/CodeBuild", "FailedBuilds", 1, ProjectName=self.alarms["ImageBuildsAlarm"]["Dimensions"][0]["Value"])
        self.firing("WebhookThrottled", "FargateQuota", "ImageBuilds", what="as AWS tells it")
        self.later(5)
        self.tell("AWS/Usage", "ResourceCount", 80, **vcpus, Class="Standard/OnDemand")
        self.firing(what="80 % is not more than 80 %")
        reconcile = "arn:aws:lambda:eu-west-1:111122223333:function:ReconcileFunction"
        for day in range(1, 8):
            self.later(1440)
            self.tell("GhaFargateRunners", "RunnerReleasesBehind", 1, FunctionName=reconcile)
            self.firing(*["RunnerReleasesBehind"] * (day == 7), what=f"day {day} behind")
        self.tell("GhaFargateRunners", "RunnerReleasesBehind", 0, FunctionName=reconcile)
        self.firing(what="the last old runner is gone")
        self.tell("GhaFargateRunners", "TakenByForeign", 1, FunctionName=reconcile)
        self.tell("GhaFargateRunners", "RunnerGroupTooWide", 1, FunctionName=reconcile)
        self.firing("TakenByForeign", "RunnerGroupTooWide", what="the group is open to others, and one of them has come")
        self.later(60)
        self.tell("GhaFargateRunners", "RunnerGroupTooWide", 0, FunctionName=reconcile)
        self.firing(what="the group is closed")


if __name__ == "__main__":
    unittest.main()

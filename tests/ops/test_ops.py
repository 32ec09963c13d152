"""A stack's whole life on the local AWS, without a terminal: deployed, upgraded, drained, deleted, and deployed again.

The binaries of `cargo test` have to be there; what they do is not looked at here.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
import unittest
from unittest import mock

from botocore.exceptions import ClientError
from local import ROOT, STACK, LocalStack, wait_until

import delete as deleting
import deploy as deploying
import stack as stacks
import stop as stopping

GIVEN = {"Organization": "octo-org", "WarmPoolSize": "2", "IdleTimeoutSeconds": "900"}
AT_ONCE = {"at_work": 0, "look_again": 0.1}


def at_the_terminal(name, *_):
    return "github" if name == "GitHubSecretArn" else ""


class Life(LocalStack):
    def refused(self, *words, **how):
        with self.assertRaises(stacks.Failure) as refused:
            self.deploy(**how)
        for word in words:
            self.assertIn(word, str(refused.exception))
        self.assertEqual(self.sent, [], "nothing is built in vain")

    def test_a_whole_life(self):
        self.first_deployment()
        self.upgrade()
        self.what_would_strand_runners()
        self.drained()
        self.deleted()

    def first_deployment(self):
        self.refused("nobody can be asked", ask=deploying.ask_at_terminal)
        self.refused("Organization", "login", given={"Organization": "octo org"})
        self.refused("no parameter", given={"Organisation": "octo-org"})
        self.refused("no secret", given=GIVEN | {"GitHubSecretArn": "nowhere"}, ask=lambda *_: "")
        answers = []

        def ask(name, about, default):
            answers.append(name)
            self.assertTrue(about)
            return at_the_terminal(name)

        done = self.deploy(GIVEN, ask)
        self.assertEqual(answers, ["GitHubSecretArn", "MaxRunners", "AlarmTopicArn"], "at most four, with what is given")
        self.assertTrue(any("service-linked role was made" in line for line in done), done)
        self.assertIn("webhook", done[-1])
        kept = json.loads((self.folder / f"{STACK}.json").read_text())
        self.assertEqual(kept["parameters"]["Organization"], "octo-org")
        self.assertIn(":secret:github-", kept["parameters"]["GitHubSecretArn"], "its ARN, by its name")
        deploy = self.sent[0]
        self.assertEqual(deploy[:4], ["sam", "deploy", "--template-file", "packaged.yaml"])
        self.assertIn("--no-confirm-changeset", deploy)
        self.assertNotIn("--guided", deploy)
        self.assertEqual(self.architecture, "x86_64")
        self.refused("the stack runners calls its runners fargate-", given=GIVEN | {"Organization": "Octo-Org"}, ask=at_the_terminal,
                     stack="second")
        self.refused("a new one needs their names", given=GIVEN | {"RunnerNamePrefix": "second"}, ask=at_the_terminal, stack="second")

    def upgrade(self):
        done = self.deploy()
        self.assertFalse(any("role" in line for line in done))
        self.deploy({"MaxRunners": "7", "Architecture": "arm64"}, tags={"team": "ci", "cost-center": "4/2"})
        self.refused("39 are too many", tags={f"t{number}": "" for number in range(39)})
        self.refused("TAGS: a b", tags={"a b": ""})
        self.assertEqual(self.variables("DispatchFunctionName")["MAX_RUNNERS"], "7")
        # From another checkout, which has no file: what the stack has stays.
        (self.folder / f"{STACK}.json").unlink()
        self.deploy()
        deploy = self.sent[0]
        self.assertEqual(deploy[deploy.index("--tags") + 1:][:2], ["team=ci", "cost-center=4/2"], "SAM takes away what it is not told")
        self.assertEqual(self.variables("DispatchFunctionName")["MAX_RUNNERS"], "7")
        self.assertEqual(self.architecture, "arm64", "as the stack has it")
        path = self.folder / f"{STACK}.json"
        path.write_text(path.read_text().replace("us-east-1", "eu-west-1"))
        self.refused("region eu-west-1")
        # What somebody changed elsewhere is not taken back.
        kept = json.loads(path.read_text().replace("eu-west-1", "us-east-1"))
        path.write_text(json.dumps(kept | {"parameters": kept["parameters"] | {"MaxRunners": "3", "Gone": "x"}}))
        self.deploy()
        self.assertEqual(self.variables("DispatchFunctionName")["MAX_RUNNERS"], "7")
        self.assertEqual(json.loads(path.read_text())["parameters"], kept["parameters"])
        with self.assertRaises(OSError), mock.patch.object(self, "send", side_effect=OSError):
            self.deploy({"MaxRunners": "8"})
        self.assertEqual(json.loads(path.read_text())["parameters"], kept["parameters"], "only what is deployed is kept")
        path.unlink()

    def what_would_strand_runners(self):
        cluster, task = self.start_task()
        for name in ("ClusterName", "RunnerNamePrefix"):
            self.refused(name, "1 tasks", "make drain", given={name: "another"})
        # No runner needs the queue.
        deploying.refuse_stranding(self.client, stacks.find(self.client, STACK), {"JobQueueName": "another"})
        self.client("ecs").stop_task(cluster=cluster, task=task)

    def drained(self):
        cluster, task = self.start_task()
        drain = stopping.drain(self.client, STACK, idle=True, **AT_ONCE)
        lines = [next(drain) for _ in range(3)]
        self.assertEqual(lines[-1], "1 tasks are left")
        self.assertEqual(self.concurrency("DispatchFunctionName"), 0)
        self.assertIsNone(self.concurrency("ReconcileFunctionName"), "it retires what is idle")
        settings = self.variables("ReconcileFunctionName")
        self.assertEqual((settings["DRAINED"], settings["IDLE_TIMEOUT_SECONDS"]), ("true", "60"))
        self.assertTrue(any("still drained" in line for line in self.deploy({"MaxRunners": "8"})))
        settings = self.variables("ReconcileFunctionName")
        self.assertEqual((settings["DRAINED"], settings["IDLE_TIMEOUT_SECONDS"], settings["MAX_RUNNERS"]), ("true", "60", "8"))
        self.assertEqual(self.concurrency("DispatchFunctionName"), 0)
        self.client("ecs").stop_task(cluster=cluster, task=task)
        self.assertIn("drained", list(drain)[-1])
        self.jobs_that_wait()
        list(stopping.resume(self.client, STACK))
        settings = self.variables("ReconcileFunctionName")
        self.assertEqual((settings["DRAINED"], settings["IDLE_TIMEOUT_SECONDS"]), ("false", "900"))
        self.assertIsNone(self.concurrency("DispatchFunctionName"))

    def jobs_that_wait(self):
        """A drained stack serves none, so that draining cannot be the way on."""
        queue = stacks.outputs(stacks.find(self.client, STACK))["JobQueueUrl"]
        self.client("sqs").send_message(QueueUrl=queue, MessageBody="a job that waits")
        for name, value in (("JobQueueName", "another"), ("CreateJobQueue", "false")):
            with self.assertRaisesRegex(stacks.Failure, f"{name}: 1 jobs wait .*`make resume` serves them") as refused:
                deploying.refuse_stranding(self.client, stacks.find(self.client, STACK), {name: value})
            self.assertNotIn("drain`", str(refused.exception))
        self.client("sqs").purge_queue(QueueUrl=queue)

    def deleted(self):
        found = stacks.find(self.client, STACK)
        queue = stacks.outputs(found)["JobQueueUrl"]

        def refuse(_):
            raise stacks.Failure("no")

        with self.assertRaises(stacks.Failure):
            list(deleting.delete(self.client, STACK, refuse, **AT_ONCE))
        self.assertEqual(self.status(STACK), found["StackStatus"], "asked before it is deleted")
        self.client("sqs").send_message(QueueUrl=queue, MessageBody="a job that waits")
        # As a deletion leaves it that failed half-way.
        of_stack = stacks.outputs(found)
        self.client("lambda").delete_function(FunctionName=of_stack["DispatchFunctionName"])
        self.client("lambda").delete_function(FunctionName=of_stack["ReconcileFunctionName"])
        self.client("ecs").delete_cluster(cluster=of_stack["ClusterName"])
        done = list(deleting.delete(self.client, STACK, lambda _: None, **AT_ONCE))
        self.assertTrue(any("1 jobs wait" in line for line in done), done)
        self.assertEqual(sum(line.startswith("left: SQS") for line in done), 5, done)
        self.assertEqual(sum(line.startswith("left: Logs") for line in done), 5, done)
        self.assertTrue(any(line.startswith("left: SecretsManager") for line in done), done)
        self.assertIsNone(stacks.find(self.client, STACK))
        self.assertEqual(stacks.messages(self.client, queue), 1, "the job is still there")

        self.refused("queue git-actions-wf-job-queue-author", "git-actions-wf-job-queue-dead-letter", f"/aws/lambda/{STACK}/dispatch",
                     "webhook-secret", "LEFTOVERS=1", given=GIVEN, ask=at_the_terminal)
        done = list(deleting.delete(self.client, STACK, lambda _: None, leftovers=True))
        self.assertGreaterEqual(sum(line.startswith("deleted: ") for line in done), 9, done)
        self.deploy(GIVEN, at_the_terminal)

    def test_a_first_deployment_that_failed(self):
        # Any resource that cannot be made; the local AWS makes no alarm on several metrics.
        alarm = {"EvaluationPeriods": 1, "ComparisonOperator": "GreaterThanThreshold", "Threshold": 0,
                 "Metrics": [{"Id": "one", "Expression": "1"}]}
        body = {"Resources": {"Alarm": {"Type": "AWS::CloudWatch::Alarm", "Properties": alarm}}}
        self.client("cloudformation").create_stack(StackName="failed", TemplateBody=json.dumps(body), Capabilities=["CAPABILITY_IAM"])
        wait_until("the rollback", lambda: self.status("failed") == "ROLLBACK_COMPLETE", 30)
        self.refused("ROLLBACK_COMPLETE", "Alarm: ", "aws cloudformation delete-stack --stack-name failed", given=GIVEN, stack="failed")

    def test_a_change_set_that_nobody_executed_is_no_stack(self):
        found = {"Stacks": [{"StackName": "runners", "StackStatus": "REVIEW_IN_PROGRESS"}]}
        client = mock.Mock(return_value=mock.Mock(**{"describe_stacks.return_value": found}))
        self.assertIsNone(stacks.find(client, "runners"))
        session = mock.Mock(**{"client.return_value": client.return_value})
        self.assertIsNone(stacks.Stack("runners", session).settled(self.fail), "setup waits for nothing")

    def test_who_may_not_see_whether_it_is_drained_deploys(self):
        denied = ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetFunctionConfiguration")
        client, send = mock.Mock(return_value=mock.Mock(**{"get_function_configuration.side_effect": denied})), mock.Mock()
        found = {"Outputs": [{"OutputKey": stopping.RECONCILE, "OutputValue": "reconcile"}]}
        self.assertFalse(deploying.update(client, found, send))
        send.assert_called_once_with()

    def test_no_stack(self):
        for step in (stopping.drain, stopping.stop, stopping.resume):
            with self.assertRaisesRegex(stacks.Failure, "no stack nowhere"):
                list(step(self.client, "nowhere"))
        with self.assertRaisesRegex(stacks.Failure, "none was deleted"):
            list(deleting.delete(self.client, "nowhere", lambda _: None))


class Prefixes(unittest.TestCase):
    """Whose runners would be taken for another stack's."""

    def refused(self, given, found=None, status="UPDATE_COMPLETE", denied=False):
        theirs = {"Organization": "acme", "RunnerNamePrefix": "fargate", "GitHubApiUrl": "https://api.github.com"}
        listed = [{"StackName": "first", "StackStatus": status, "Parameters": [
            {"ParameterKey": name, "ParameterValue": value} for name, value in theirs.items()]},
            {"StackName": "something else", "StackStatus": status}]
        cloudformation = mock.Mock(**{"get_paginator.return_value.paginate.return_value": [{"Stacks": listed}]})
        if denied:
            cloudformation.get_paginator.side_effect = ClientError({"Error": {"Code": "AccessDenied"}}, "DescribeStacks")
        now = found and {"Parameters": [{"ParameterKey": name, "ParameterValue": value} for name, value in (theirs | found).items()]}
        try:
            deploying.refuse_shared_prefix(lambda _: cloudformation, "second", now, given)
        except stacks.Failure:
            return True
        return False

    def test_another_stack_of_the_same_organisation(self):
        self.assertTrue(self.refused({"Organization": "Acme"}))
        self.assertTrue(self.refused({"Organization": "*"}))
        self.assertFalse(self.refused({"Organization": "other"}))
        self.assertFalse(self.refused({"Organization": "acme", "RunnerNamePrefix": "second"}))
        self.assertFalse(self.refused({"Organization": "acme", "GitHubApiUrl": "https://ghe.example.com/api/v3"}))
        self.assertFalse(self.refused({"Organization": "acme"}, status="ROLLBACK_COMPLETE"))
        self.assertFalse(self.refused({"Organization": "acme"}, denied=True))

    def test_an_upgrade_is_refused_only_where_it_changes_that(self):
        self.assertFalse(self.refused({}, found={"MaxRunners": "7"}), "it was so before")
        self.assertTrue(self.refused({"RunnerNamePrefix": "fargate"}, found={"RunnerNamePrefix": "second"}))
        self.assertFalse(self.refused({"RunnerNamePrefix": "third"}, found={"RunnerNamePrefix": "second"}))


class Given(unittest.TestCase):
    def test_a_document_keeps_its_quotes(self):
        document = '{"version": 1, "classes": [{"name": "big", "labels": ["big"]}]}'
        for text in (f"MaxRunners=7 RunnerClasses={document} Organization=acme", f"MaxRunners=7 'RunnerClasses={document}' Organization=acme"):
            self.assertEqual(deploying.read_parameters(text), {"MaxRunners": "7", "RunnerClasses": document, "Organization": "acme"})
        self.assertEqual(deploying.read_parameters("A='b c' D="), {"A": "b c", "D": ""})
        shown = re.search(r"`make deploy (PARAMETERS='RunnerClasses=.*?')`", (ROOT / "docs" / "classes.md").read_text())[1]
        shown = deploying.read_parameters(shlex.split(shown)[0].partition("=")[2])
        self.assertEqual(json.loads(shown["RunnerClasses"])["classes"][0]["name"], "big")
        with self.assertRaisesRegex(stacks.Failure, "RunnerClasses is no JSON.*the quotes of a shell"):
            deploying.read_parameters("RunnerClasses={version: 1}")


class Confirmation(unittest.TestCase):
    def test_without_a_terminal_only_by_name(self):
        self.assertIsNone(deleting.confirm("runners", "runners")("Delete it?"))
        for given in ("yes", "other", ""):
            with self.assertRaisesRegex(stacks.Failure, "CONFIRM=runners"):
                deleting.confirm("runners", given)("Delete it?")


class NoCredentials(unittest.TestCase):
    def run_deploy(self, **environment):
        quiet = {"PATH": os.environ["PATH"], "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
                 "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent"}
        began = time.monotonic()
        done = subprocess.run([sys.executable, ROOT / "ops" / "deploy.py", "x"], env=quiet | environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        return done.stderr, time.monotonic() - began

    def test_it_says_so_at_once(self):
        # The documents set this one, as for the AWS CLI; boto3 by itself reads another.
        said, seconds = self.run_deploy(AWS_REGION="eu-west-1")
        self.assertIn("deploy FAILED: no AWS credentials", said)
        self.assertNotIn("Traceback", said)
        # A second, on a machine with nothing else to do.
        self.assertLess(seconds, 15)

    def test_sam_deploys_to_the_same_region(self):
        for given, told in (({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-1"}, "eu-west-1"),
                            ({"AWS_REGION": "", "AWS_DEFAULT_REGION": "us-east-1"}, "us-east-1")):
            with mock.patch.dict(os.environ, given), mock.patch.object(deploying.subprocess, "run") as run:
                deploying.run_here(["sam", "deploy"])
                self.assertEqual(run.call_args.kwargs["env"]["AWS_DEFAULT_REGION"], told)
                self.assertEqual(stacks.client("sts").meta.region_name, told)

    def test_no_region(self):
        self.assertIn("deploy FAILED: no Region", self.run_deploy()[0])


class Reserved(unittest.TestCase):
    def reserved(self, unreserved, given=None):
        class Lambda:
            def get_account_settings(self):
                if unreserved is None:
                    raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetAccountSettings")
                return {"AccountLimit": {"ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": unreserved}}

        return deploying.reserve(lambda _: Lambda(), given or {})["WebhookReservedConcurrency"]

    def test_the_webhook_has_a_limit_where_the_account_has_room_for_one(self):
        self.assertEqual([self.reserved(it) for it in (1000, 120, 119, 10, None)], ["20", "20", "", "", ""])
        self.assertEqual(self.reserved(1000, {"WebhookReservedConcurrency": ""}), "", "somebody wants none")
        self.assertEqual(self.reserved(10, {"WebhookReservedConcurrency": "5"}), "5")


class Overrides(unittest.TestCase):
    def test_what_is_given_on_the_command_line(self):
        given = deploying.read_parameters("Organization=acme RunnerLabels='self-hosted,linux' AlarmTopicArn=")
        self.assertEqual(given, {"Organization": "acme", "RunnerLabels": "self-hosted,linux", "AlarmTopicArn": ""})


if __name__ == "__main__":
    unittest.main()

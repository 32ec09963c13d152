"""Who followed the articles has a cluster, a task definition, a bus, a rule and a queue: a stack that is given them makes the
dispatch function alone, and an event on that bus becomes a task in that cluster."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from local import STACK, LocalStack, wait_until

import deploy as deploying
import stack as stacks
import stop as stopping
from local_aws import BINARIES, CREDENTIALS

CLUSTER, FAMILY, BUS, QUEUE, RULE = ("mine", "gha-jit-self-hosted-fargate-runner", "git-actions-event-bus", "git-actions-wf-job-queue",
                                     "trigger-jit-self-hosted-runner")
ROLES = ["arn:aws:iam::000000000000:role/task", "arn:aws:iam::000000000000:role/execution"]
GIVEN = {
    "Organization": "octo-org", "Mode": "container-minted", "FrontDoor": "none", "EnableReconcile": "false",
    "CreateCluster": "false", "ClusterName": CLUSTER, "CreateTaskDefinition": "false", "CreateEventBus": "false",
    "CreateJobQueue": "false", "SubnetIds": "subnet-0123456789abcdef0", "SecurityGroupIds": "sg-0123456789abcdef0",
    "GitHubSecretArn": "", "MaxRunners": "0", "AlarmTopicArn": "",
}
JOB = 2832853601


class There(LocalStack):
    def test_dispatch_alone(self):
        self.refused("no cluster mine")
        ecs = self.client("ecs")
        ecs.create_cluster(clusterName=CLUSTER)
        ecs.put_cluster_capacity_providers(cluster=CLUSTER, capacityProviders=["FARGATE_SPOT"], defaultCapacityProviderStrategy=[
            {"capacityProvider": "FARGATE_SPOT", "weight": 1}])
        self.refused("lacks the capacity providers FARGATE: aws ecs put-cluster-capacity-providers --cluster mine --capacity-providers "
                     "FARGATE_SPOT FARGATE --default-capacity-provider-strategy capacityProvider=FARGATE_SPOT,weight=1")
        ecs.put_cluster_capacity_providers(cluster=CLUSTER, capacityProviders=["FARGATE"], defaultCapacityProviderStrategy=[])
        self.refused("no bus")
        self.client("events").create_event_bus(Name=BUS)
        self.refused("no queue")
        queue = self.client("sqs").create_queue(QueueName=QUEUE)["QueueUrl"]
        self.rule(queue)
        self.refused("no task definition")
        self.register("build")
        self.refused("has build, and no runner")
        self.register("runner")

        done = self.deploy(GIVEN)
        self.assertEqual(done[-1], f"deployed, from the bus {BUS} on")
        found = stacks.find(self.client, STACK)
        self.assertEqual(stacks.parameters(found)["PassRoleArns"].split(","), ROLES)
        made = self.client("cloudformation").describe_stack_resources(StackName=STACK)["StackResources"]
        kinds = {it["ResourceType"] for it in made}
        self.assertLessEqual(kinds, {"AWS::Lambda::Function", "AWS::Lambda::EventSourceMapping", "AWS::IAM::Role", "AWS::Logs::LogGroup",
                                     "AWS::CloudWatch::Alarm"})
        self.assertEqual(sum(it["ResourceType"] == "AWS::Lambda::Function" for it in made), 1)

        others = ecs.register_task_definition(family="other", containerDefinitions=[{"name": "other", "image": "other"}])
        other = ecs.run_task(cluster=CLUSTER, taskDefinition=others["taskDefinition"]["taskDefinitionArn"])["tasks"][0]
        self.event()
        task, = wait_until("the job's task", lambda: stacks.tasks(self.client, found), 30)
        task, = ecs.describe_tasks(cluster=CLUSTER, tasks=[task])["tasks"]
        self.assertEqual((task["startedBy"], task["taskDefinitionArn"].rsplit("/")[-1]), (f"gha-{JOB}", f"{FAMILY}:2"))
        list(stopping.stop(self.client, STACK, at_work=0))
        self.assertEqual(stacks.tasks(self.client, found), [])
        other, = ecs.describe_tasks(cluster=CLUSTER, tasks=[other["taskArn"]])["tasks"]
        self.assertEqual(other["desiredStatus"], "RUNNING", "others' tasks in the same cluster are left alone")
        list(stopping.resume(self.client, STACK))
        self.of_any_definition(found)

        self.roles_are_looked_up_anew()
        self.code_of_one_function(stacks.outputs(found)["DispatchFunctionName"])

    def roles_are_looked_up_anew(self):
        given, later = "arn:aws:iam::000000000000:role/of-a-class", "arn:aws:iam::000000000000:role/later"
        self.deploy({"PassRoleArns": ",".join([*ROLES, given])})
        self.register("runner", task_role=later)
        self.deploy()
        now = stacks.parameters(stacks.find(self.client, STACK))["PassRoleArns"].split(",")
        self.assertEqual(set(now), {*ROLES, given, later})

    def of_any_definition(self, found):
        """In a cluster that others use too: classes and Docker have task definitions of their own, and so has another stack."""
        ours, others = [], []
        for family, name, is_ours in ((f"{FAMILY}-gpu", "fargate-4711-1", True), (f"{FAMILY}-gpu", "fargate-pool-1700000000-0", True),
                                      (f"{FAMILY}-docker", None, True), (f"{FAMILY}-gpu", None, False), (FAMILY, "second-4711-1", False),
                                      (FAMILY, "fargate-second-4711-1", False)):
            self.register("runner", family)
            tags = [{"key": "gha:runner-name", "value": name}] if name else []
            started = self.client("ecs").run_task(cluster=CLUSTER, taskDefinition=family, tags=tags)["tasks"]
            (ours if is_ours else others).append(started[0]["taskArn"])
        self.assertEqual(set(stacks.tasks(self.client, found)), set(ours))
        for arn in ours + others:
            self.client("ecs").stop_task(cluster=CLUSTER, task=arn)

    def code_of_one_function(self, name):
        """What docs/install.md says of `cargo lambda deploy`: it changes the stack's function, and in it nothing but the code."""
        text = (deploying.ROOT / "docs" / "install.md").read_text(encoding="utf-8")
        words = re.search(r"(cargo lambda deploy --binary-name dispatch) \"\$\(aws ", text)[1].split()
        path = f"{deploying.ROOT / '.venv' / 'build' / 'bin'}:{os.environ['PATH']}"
        if not shutil.which("cargo-lambda", path=path):
            print("cargo lambda deploy WAS NOT TRIED: make .venv/build/ready installs it")
            return
        functions = self.client("lambda")
        before = functions.get_function_configuration(FunctionName=name)
        with tempfile.TemporaryDirectory() as folder:
            binary = Path(folder) / "dispatch" / "bootstrap"
            binary.parent.mkdir()
            binary.write_bytes((BINARIES / "webhook").read_bytes())  # any other
            subprocess.run([*words, "--lambda-dir", folder, name], cwd=deploying.ROOT, check=True, capture_output=True,
                           env=CREDENTIALS | {"PATH": path, "HOME": os.environ["HOME"], "AWS_ENDPOINT_URL": self.aws.endpoint})
        after = functions.get_function_configuration(FunctionName=name)
        self.assertNotEqual(after["CodeSha256"], before["CodeSha256"])
        for kept in ("Environment", "Role", "Timeout", "MemorySize", "Handler", "Runtime", "LoggingConfig"):
            self.assertEqual(after[kept], before[kept])
        self.assertEqual([it["FunctionName"] for it in functions.list_functions()["Functions"]], [name])

    def refused(self, *words):
        with self.assertRaises(stacks.Failure) as refused:
            self.deploy(GIVEN)
        for word in words:
            self.assertIn(word, str(refused.exception))

    def rule(self, queue):
        events, bus_rule = self.client("events"), {"Name": RULE, "EventBusName": BUS}
        pattern = {"source": ["github.com"], "detail-type": ["workflow_job"], "detail": {"action": ["queued"]}}
        events.put_rule(**bus_rule, EventPattern=json.dumps(pattern))
        arn = self.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        events.put_targets(Rule=RULE, EventBusName=BUS, Targets=[{"Id": "queue", "Arn": arn}])

    def register(self, container, family=FAMILY, task_role=ROLES[0]):
        self.client("ecs").register_task_definition(
            family=family, requiresCompatibilities=["FARGATE"], networkMode="awsvpc", cpu="1024", memory="3072",
            taskRoleArn=task_role, executionRoleArn=ROLES[1], containerDefinitions=[{"name": container, "image": "example.com/runner"}])

    def event(self):
        job = json.loads((deploying.ROOT / "events" / "queued.json").read_text())
        job["workflow_job"]["id"] = JOB
        job["repository"]["owner"]["login"] = "octo-org"
        self.client("events").put_events(Entries=[{
            "EventBusName": BUS, "Source": "github.com", "DetailType": "workflow_job", "Detail": json.dumps(job)}])


if __name__ == "__main__":
    unittest.main()

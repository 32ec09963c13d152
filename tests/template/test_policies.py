"""Each principal and each action, allowed where it is needed and denied everywhere else."""

import itertools
import pathlib
import unittest

from policies import ACCOUNT, Stack, allowed

TEMPLATE = pathlib.Path(__file__).parents[2] / "template.yaml"
ROLES_THERE = [f"arn:aws:iam::{ACCOUNT}:role/task", f"arn:aws:iam::{ACCOUNT}:role/execution"]
THERE = {"CreateCluster": "false", "CreateTaskDefinition": "false", "CreateEventBus": "false", "CreateJobQueue": "false",
         "PassRoleArns": ",".join(ROLES_THERE)}
OPERATOR = f"arn:aws:iam::{ACCOUNT}:role/operator"
# Another role of the account that may do anything, as far as it goes by itself.
ANYTHING = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
TOKEN = f"arn:aws:secretsmanager:eu-west-1:{ACCOUNT}:secret:github"
MODES = {
    "container-minted": {"Mode": "container-minted"},
    "dispatcher-minted": {"GitHubSecretArn": TOKEN},
    "several Apps": {"GitHubSecretArn": f"{TOKEN},{TOKEN}-2"},
    "its own secret": {},
    "ARM64": {"GitHubSecretArn": TOKEN, "EnableArm64": "true"},
    "warm pool": {"GitHubSecretArn": TOKEN, "WarmPoolSize": "2"},
    "image pipeline": {"GitHubSecretArn": TOKEN, "EnableImagePipeline": "true", "RunnerImage": "example.com/tools:current"},
    "putters": {"GitHubSecretArn": TOKEN, "EventBusPutterArns": f"{OPERATOR},{OPERATOR}-2"},
    "operators": {"GitHubSecretArn": TOKEN, "QueueOperatorArns": f"{OPERATOR},{OPERATOR}-2"},
}
MODES |= {"Docker class": {"EnableDockerClass": "true", "SubnetIds": "subnet-0123456789abcdef0", "AssignPublicIp": "DISABLED",
                           "SecurityGroupIds": "sg-0123456789abcdef0"}}
MODES |= {"Docker class, mirrored": MODES["Docker class"] | {"DockerImage": f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/docker:dind"}}
KEY = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/0123"
CLOSED = {"FunctionSubnetIds": "subnet-0123456789abcdef0", "FunctionSecurityGroupIds": "sg-0123456789abcdef0", "SecretKmsKeyArn": KEY,
          "RepositoryCredentialsArn": f"{TOKEN}-registry", "RunnerImage": "registry.example.com/runner:1"}
MODES |= {"closed network": CLOSED, "closed network, container-minted": CLOSED | {"Mode": "container-minted"}}
MODES |= {"what there is": THERE | {"GitHubSecretArn": TOKEN, "WarmPoolSize": "2"}, "dispatch alone": THERE | {
    "GitHubSecretArn": TOKEN, "FrontDoor": "none", "EnableReconcile": "false", "WebhookSecretArn": TOKEN}}
MODES |= {"runner classes": {"GitHubSecretArn": TOKEN, "RunnerClasses": "s3://acme-settings/runners/classes.json"}}
QUEUES = ["JobQueue", "JobDeadLetterQueue", "LifecycleQueue", "LifecycleDeadLetterQueue", "AuthorQueue"]
RULES = ["JobQueuedRule", "JobLifecycleRule", "TaskStoppedRule", "SweepRule", "RedeliveryRule"]
ROLES = ["WebhookRole", "DispatchRole", "ReconcileRole", "RedeliverRole", "AuthorRole", "TaskRole", "ExecutionRole", "ImageRole", "ImageWeeklyRole", "DockerInfrastructureRole"]
SEND, RECEIVE = "sqs:SendMessage", "sqs:ReceiveMessage"
MAY = {
    ("JobQueue", SEND): {"JobQueuedRule", "DispatchRole", "ReconcileRole"},
    ("JobQueue", RECEIVE): {"DispatchRole"},
    ("JobDeadLetterQueue", SEND): {"JobQueuedRule", "DispatchRole", "ReconcileRole"},
    ("JobDeadLetterQueue", RECEIVE): set(),
    ("LifecycleQueue", SEND): {"JobLifecycleRule", "TaskStoppedRule", "SweepRule"},
    ("LifecycleQueue", RECEIVE): {"ReconcileRole"},
    ("LifecycleDeadLetterQueue", SEND): {"JobLifecycleRule", "TaskStoppedRule", "SweepRule"},
    ("LifecycleDeadLetterQueue", RECEIVE): set(),
    ("AuthorQueue", SEND): {"DispatchRole", "ReconcileRole", "AuthorRole"},
    ("AuthorQueue", RECEIVE): {"AuthorRole"},
}


def role(arn, **more):
    return {"aws:PrincipalArn": arn, "aws:PrincipalIsAWSService": "false", "aws:SecureTransport": "true", **more}


def service(name, source):
    return {"service": name, "aws:SourceArn": source, "aws:PrincipalIsAWSService": "true", "aws:SecureTransport": "true"}


def principals(stack):
    """Name -> (what it may by itself, what AWS knows about its request)."""
    yield from ((name, stack.of_role(name), role(stack.arn(name))) for name in ROLES if stack.creates(name))
    yield from ((name, [], service("events.amazonaws.com", stack.arn(name))) for name in RULES if stack.creates(name))
    yield "another rule", [], service("events.amazonaws.com", f"arn:aws:events:eu-west-1:{ACCOUNT}:rule/another")
    yield "another service", [], service("sns.amazonaws.com", stack.arn("JobQueuedRule"))
    yield "administrator", ANYTHING, role(f"arn:aws:iam::{ACCOUNT}:role/administrator")
    yield "operator", ANYTHING, role(OPERATOR)
    yield "nobody", [], {"aws:SecureTransport": "true"}


class Queues(unittest.TestCase):
    def test_each_principal_and_action(self):
        for mode, parameters in MODES.items():
            stack = Stack(TEMPLATE, **parameters)
            for queue, action in itertools.product(QUEUES, (SEND, RECEIVE)):
                if not stack.creates(queue):
                    continue
                may = MAY[queue, action] | ({"operator"} if mode == "operators" else set())
                for name, identity, context in principals(stack):
                    with self.subTest(mode=mode, queue=queue, action=action, principal=name):
                        verdict = allowed(identity, stack.of_queue(queue), action, stack.arn(queue), context)
                        self.assertEqual(verdict, name in may)

    def test_nothing_without_tls(self):
        stack = Stack(TEMPLATE, **MODES["operators"])
        for queue, (name, identity, context) in itertools.product(QUEUES, principals(stack)):
            for action in (SEND, RECEIVE, "sqs:GetQueueAttributes"):
                with self.subTest(queue=queue, action=action, principal=name):
                    plain = {**context, "aws:SecureTransport": "false"}
                    self.assertFalse(allowed(identity, stack.of_queue(queue), action, stack.arn(queue), plain))

    def test_the_deny_is_what_stops_an_administrator(self):
        stack = Stack(TEMPLATE)
        for queue, action in itertools.product(QUEUES, (SEND, RECEIVE)):
            context = role(f"arn:aws:iam::{ACCOUNT}:role/administrator")
            self.assertTrue(allowed(ANYTHING, [], action, stack.arn(queue), context))


class Functions(unittest.TestCase):
    def test_only_its_rule_calls_redeliver(self):
        resources = Stack(TEMPLATE).template["Resources"]
        rule, permission = (resources[name] for name in ("RedeliveryRule", "RedeliverFunctionPermission"))
        self.assertEqual([it["Arn"] for it in rule["Properties"]["Targets"]], [{"Fn::GetAtt": "RedeliverFunction.Arn"}])
        self.assertEqual(permission["Properties"], {
            "FunctionName": {"Ref": "RedeliverFunction"}, "Action": "lambda:InvokeFunction", "Principal": "events.amazonaws.com",
            "SourceArn": {"Fn::GetAtt": "RedeliveryRule.Arn"}})
        self.assertEqual({resources[name]["Condition"] for name in ("RedeliveryRule", "RedeliverFunctionPermission", "RedeliverFunction")},
                         {"ReconcileAsks"})

    def test_redeliver_is_reconcile_but_for_its_calls(self):
        resources = Stack(TEMPLATE).template["Resources"]
        mine, theirs = (resources[name] for name in ("RedeliverFunction", "ReconcileFunction"))
        self.assertEqual(mine["Metadata"], theirs["Metadata"])
        for key in ("Environment", "LoggingConfig"):
            self.assertEqual(mine["Properties"][key], theirs["Properties"][key])
        self.assertNotIn("Events", mine["Properties"])


class Bus(unittest.TestCase):
    def test_each_principal(self):
        for mode, parameters in MODES.items():
            stack = Stack(TEMPLATE, **parameters)
            bus = f"arn:aws:events:eu-west-1:{ACCOUNT}:event-bus/{stack.parameters['EventBusName']}"
            if not stack.creates("EventBus"):
                continue
            may = {"WebhookRole"} | ({"operator"} if mode == "putters" else set())
            for name, identity, context in principals(stack):
                with self.subTest(mode=mode, principal=name):
                    verdict = allowed(identity, stack.of_bus(), "events:PutEvents", bus, context)
                    self.assertEqual(verdict, name in may)


if __name__ == "__main__":
    unittest.main()

"""What is there already is not made again, and what is made names nothing that is not: every combination of what a stack can
be given instead."""

import itertools
import re
import unittest

from lint import COMBINATIONS, decided
from policies import PSEUDO, Stack
from test_policies import TEMPLATE

CHOICES = {
    "CreateCluster": ("true", "false"), "CreateTaskDefinition": ("true", "false"), "CreateEventBus": ("true", "false"),
    "CreateJobQueue": ("true", "false"), "EnableReconcile": ("true", "false"), "FrontDoor": ("function-url", "http-api", "none"),
    "Mode": ("dispatcher-minted", "container-minted"), "EnableArm64": ("false", "true"),
    "EventBusPutterArns": ("", "arn:aws:iam::111122223333:role/putter"),
}
DISPATCH_ALONE = {
    "DispatchFunction", "DispatchRole", "DispatchLogGroup", "DispatchErrorsAlarm", "DispatchNeedsOperatorAlarm", "JobsWaitAlarm",
    "FargateQuotaAlarm", "StartedVcpusAlarm", "OneJobQuery", "NeedsMeQuery", "WaitsQuery", "RejectedQuery", "WhoQuery",
}


def names(value):
    """Every resource or parameter that a part of the template names, DependsOn included."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key == "Ref":
                yield part
            elif key == "Fn::GetAtt":
                yield (part.split(".") if isinstance(part, str) else part)[0]
            elif key == "DependsOn":
                yield from [part] if isinstance(part, str) else part
            elif key == "Fn::Sub":
                text, known = (part, {}) if isinstance(part, str) else part
                yield from set(re.findall(r"\$\{(\w+)", text)) - known.keys()
                yield from names(known)
            else:
                yield from names(part)
    elif isinstance(value, list):
        for part in value:
            yield from names(part)


class There(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = Stack(TEMPLATE, Organization="acme")
        cls.defaults = dict(cls.stack.parameters)

    def made(self, given):
        """What a stack with these parameters makes and tells of, or nothing, if it is refused."""
        self.stack.parameters = self.defaults | given
        if self.stack.refusals():
            return None
        template = self.stack.template
        resources = {name: decided(it, self.stack) for name, it in template["Resources"].items() if self.stack.creates(name)}
        outputs = {name: decided(it, self.stack) for name, it in template["Outputs"].items()
                   if "Condition" not in it or self.stack.holds(it["Condition"])}
        return resources, outputs

    def test_no_combination_names_what_it_does_not_make(self):
        tried = 0
        for values in itertools.product(*CHOICES.values()):
            given = dict(zip(CHOICES, values))
            made = self.made(given)
            if made is None:
                continue
            tried += 1
            resources, outputs = made
            there = resources.keys() | self.defaults.keys() | PSEUDO.keys() | {"AWS"}
            for name, it in itertools.chain(resources.items(), outputs.items()):
                missing = set(names(it)) - there
                if missing:  # a subTest for each would take minutes
                    self.fail(f"{name} names {missing}: {given}")
        self.assertGreater(tried, 200)

    def test_dispatch_alone_is_all_that_is_made(self):
        resources, outputs = self.made(COMBINATIONS["dispatch alone"])
        self.assertEqual(resources.keys(), DISPATCH_ALONE)
        self.assertEqual(outputs.keys(), {"GitHubSecretArn", "JobQueueUrl", "EventBusName", "ClusterName", "TaskDefinitionArn",
                                          "DispatchFunctionName"})

    def test_each_is_made_but_for_the_one_that_is_there(self):
        everything = self.made({})[0].keys()
        for name, (parameters, there) in {
            "cluster": ({"CreateCluster": "false"}, {"Cluster"}),
            "task definition": ({"CreateTaskDefinition": "false"}, {"TaskDefinition", "TaskRole", "ExecutionRole", "RunnerLogGroup"}),
            "bus": ({"CreateEventBus": "false"}, {"EventBus"}),
            "queue": ({"CreateEventBus": "false", "CreateJobQueue": "false"}, {
                "EventBus", "JobQueue", "JobQueuePolicy", "JobDeadLetterQueue", "JobDeadLetterQueuePolicy", "JobQueuedRule"}),
            "webhook's secret": ({"WebhookSecretArn": "arn:aws:secretsmanager:eu-west-1:1:secret:x"}, {"WebhookSecret"}),
        }.items():
            with self.subTest(there=name):
                self.assertEqual(everything - self.made(parameters)[0].keys(), there)


if __name__ == "__main__":
    unittest.main()

"""Parameters that cannot work are refused by the stack, before anything is made."""

import re
import unittest

from lint import COMBINATIONS
from policies import Stack
from test_policies import TEMPLATE, THERE, TOKEN

ROOT = TEMPLATE.parent
MINTED = {"Organization": "acme"}
CONTAINERS = MINTED | {"Mode": "container-minted"}
NETWORK = {"SubnetIds": "subnet-0123456789abcdef0"}
GROUP = {"SecurityGroupIds": "sg-0123456789abcdef0"}
POLICIES = {"TaskPolicyArns": "arn:aws:iam::aws:policy/ReadOnlyAccess"}
PRIVATE = NETWORK | GROUP | {"AssignPublicIp": "DISABLED"}
REFUSED = [
    ({**MINTED, **NETWORK}, "VpcId so that a security group"),
    ({**MINTED, **GROUP}, "only together with SubnetIds"),
    ({**MINTED, "VpcId": "vpc-0123456789abcdef0"}, "only together with SubnetIds"),
    ({**CONTAINERS, "Organization": "*"}, "one organisation"),
    ({**CONTAINERS, "RunnerScope": "repo"}, "RunnerScope is org"),
    ({**CONTAINERS, "GitHubSecretArn": TOKEN}, "GitHubSecretArn is for dispatcher-minted"),
    ({**MINTED, "AccessTokenSecretArn": TOKEN}, "AccessTokenSecretArn is for Mode container-minted"),
    ({**CONTAINERS, "WarmPoolSize": "2"}, "WarmPoolSize needs"),
    ({**MINTED, "WarmPoolSize": "2", "RunnerScope": "repo"}, "any repository can use"),
    ({**MINTED, "WarmPoolSize": "2", "Organization": "*"}, "one organisation"),
    ({**MINTED, "AssignPublicIp": "DISABLED"}, "has no NAT"),
    ({**CONTAINERS, "EnableImagePipeline": "true"}, "EnableImagePipeline needs"),
    ({**MINTED, "EnableImagePipeline": "true", "EnableArm64": "true"}, "x64 alone"),
    ({**MINTED, "TaskCpu": "256", "TaskMemory": "3072"}, "TaskMemory of 256"),
    ({**MINTED, "TaskCpu": "256", "TaskMemory": "1536"}, "TaskMemory of 256"),
    ({**MINTED, "TaskCpu": "16384", "TaskMemory": "33000"}, "TaskMemory of 16384"),
]
REFUSED += [
    ({**MINTED, "FunctionSubnetIds": "subnet-0123456789abcdef0"}, "FunctionSecurityGroupIds too"),
    ({**MINTED, "FunctionSecurityGroupIds": "sg-0123456789abcdef0"}, "only together with FunctionSubnetIds"),
    ({**MINTED, "RepositoryCredentialsArn": TOKEN}, "only together with RunnerImage"),
    ({**MINTED, "MonthlyBudget": "100"}, "which it tells"),
    ({**MINTED, "EnableDockerClass": "true"}, "AssignPublicIp=DISABLED"),
    ({**CONTAINERS, **PRIVATE, "EnableDockerClass": "true"}, "EnableDockerClass needs dispatcher-minted"),
    ({**MINTED, **PRIVATE, "EnableDockerClass": "true", "CreateTaskDefinition": "false"}, "a task definition that is created"),
    ({**MINTED, **POLICIES}, "whatever repository the group is open to"),
    ({**CONTAINERS, **POLICIES}, "whatever repository the group is open to"),
    ({**MINTED, "CreateJobQueue": "false"}, "CreateEventBus is false"),
    ({**MINTED, "FrontDoor": "none"}, "EventBusPutterArns says who"),
    ({**MINTED, "CreateTaskDefinition": "false", "RunnerImage": "example.com/runner:1"}, "that is created"),
    ({**CONTAINERS, "CreateTaskDefinition": "false", "AccessTokenSecretArn": TOKEN}, "that is created"),
    ({**MINTED, "PassRoleArns": "arn:aws:iam::111122223333:role/task"}, "CreateTaskDefinition is false"),
    ({**MINTED, "EnableReconcile": "false", "WarmPoolSize": "2"}, "WarmPoolSize needs EnableReconcile"),
]
TAKEN = [
    MINTED,
    CONTAINERS,
    {**CONTAINERS, "AccessTokenSecretArn": TOKEN},
    {**MINTED, "GitHubSecretArn": TOKEN},
    {**MINTED, **NETWORK, **GROUP, "AssignPublicIp": "DISABLED"},
    {**MINTED, **PRIVATE, "EnableDockerClass": "true"},
    {**MINTED, **NETWORK, "VpcId": "vpc-0123456789abcdef0"},
    {**MINTED, "WarmPoolSize": "2"},
    {**MINTED, "WarmPoolSize": "2", "Organization": "*", "RunnerScope": "enterprise/acme"},
    {**MINTED, "Organization": "*", "RunnerScope": "repo"},
    {**MINTED, "EnableImagePipeline": "true"},
    {**MINTED, "MonthlyBudget": "100", "AlarmTopicArn": "arn:aws:sns:eu-west-1:111122223333:page"},
    {**MINTED, **POLICIES, "RunnerGroupId": "7"},
    {**MINTED, **POLICIES, "RunnerScope": "repo"},
    {**MINTED, **POLICIES, "TaskPoliciesForDefaultGroup": "true"},
    {**MINTED, **THERE},
    {**CONTAINERS, **THERE, "FrontDoor": "none", "EnableReconcile": "false"},
]


class Rules(unittest.TestCase):
    def test_what_cannot_work_is_refused_with_the_reason(self):
        for parameters, reason in REFUSED:
            with self.subTest(parameters=parameters):
                refusals = Stack(TEMPLATE, **parameters).refusals()
                self.assertEqual([reason in refusal for refusal in refusals], [True], refusals)

    def test_what_can_work_is_taken(self):
        for parameters in TAKEN + [{"Organization": "acme", **it} for it in COMBINATIONS.values()]:
            with self.subTest(parameters=parameters):
                self.assertEqual(Stack(TEMPLATE, **parameters).refusals(), [])

    def test_every_rule_was_tried(self):
        said = {refusal for parameters, _ in REFUSED for refusal in Stack(TEMPLATE, **parameters).refusals()}
        rules = Stack(TEMPLATE).template["Rules"]
        untried = [name for name, rule in rules.items() if not name.startswith("Size")
                   for assertion in rule["Assertions"] if assertion["AssertDescription"] not in said]
        self.assertEqual(untried, [])

    def test_sizes_are_the_ones_that_dispatch_knows(self):
        rows = re.findall(r"Row \{ cpu: (\d+), least: (\d+), most: ([\d_]+), step: (\d+) \}",
                          (ROOT / "src" / "fargate" / "size.rs").read_text(encoding="utf-8"))
        self.assertEqual(len(rows), 7)
        template = Stack(TEMPLATE).template
        self.assertEqual([cpu for cpu, *_ in rows], template["Parameters"]["TaskCpu"]["AllowedValues"])
        for cpu, least, most, step in rows:
            sizes = {str(mib) for mib in range(int(least), int(most.replace("_", "")) + 1, int(step))}
            rule, = template["Rules"][f"Size{cpu}"]["Assertions"]
            with self.subTest(cpu=cpu):
                self.assertEqual(set(rule["Assert"]["Fn::Contains"][0]), sizes - ({"1536"} if cpu == "256" else set()))

    def test_no_number_is_a_fraction(self):
        """CloudFormation's type Number takes 1.5, and a function that is given it does not start."""
        for name, parameter in Stack(TEMPLATE).template["Parameters"].items():
            with self.subTest(parameter=name):
                self.assertTrue(parameter["Type"] == "String" or "AllowedValues" in parameter)


if __name__ == "__main__":
    unittest.main()

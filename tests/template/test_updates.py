"""No update and no deletion of the stack takes jobs, tokens, images or logs with it, and none lets events fall."""

import unittest

from policies import Stack
from test_policies import TEMPLATE

RESOURCES = Stack(TEMPLATE).template["Resources"]
# What holds something that cannot be made again.
HOLDS = {"AWS::SQS::Queue", "AWS::SecretsManager::Secret", "AWS::ECR::Repository", "AWS::Logs::LogGroup"}
# What comes and goes with the stack, and holds nothing. A type that is in neither list wants a decision.
HOLDS_NOTHING = {
    "AWS::ApiGatewayV2::Api", "AWS::ApiGatewayV2::Integration", "AWS::ApiGatewayV2::Route", "AWS::ApiGatewayV2::Stage",
    "AWS::Budgets::Budget", "AWS::CloudFormation::WaitConditionHandle", "AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard",
    "AWS::CodeBuild::Project", "AWS::EC2::InternetGateway", "AWS::EC2::Route",
    "AWS::EC2::RouteTable", "AWS::EC2::SecurityGroup", "AWS::EC2::Subnet", "AWS::EC2::SubnetRouteTableAssociation",
    "AWS::EC2::VPC", "AWS::EC2::VPCGatewayAttachment", "AWS::ECS::CapacityProvider", "AWS::ECS::Cluster", "AWS::ECS::TaskDefinition",
    "AWS::Lambda::Permission", "AWS::Lambda::Url", "AWS::Logs::QueryDefinition",
    "AWS::Events::EventBus", "AWS::Events::Rule", "AWS::IAM::InstanceProfile", "AWS::IAM::Role", "AWS::SQS::QueuePolicy",
    "AWS::Serverless::Function", "AWS::Serverless::LayerVersion",
}


def of_type(kind):
    return {name for name, resource in RESOURCES.items() if resource["Type"] == kind}


def named(value):
    """Every resource that a part of the template names."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key == "Ref":
                yield part
            elif key == "Fn::GetAtt":
                yield part.split(".")[0]
            else:
                yield from named(part)
    elif isinstance(value, list):
        for part in value:
            yield from named(part)


class Updates(unittest.TestCase):
    def test_what_holds_something_is_kept(self):
        for name, resource in RESOURCES.items():
            with self.subTest(resource=name):
                self.assertIn(resource["Type"], HOLDS | HOLDS_NOTHING)
                keeps = resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")
                kept = ("RetainExceptOnCreate", "Retain") if resource["Type"] in HOLDS else (None, None)
                self.assertEqual(keeps, kept)

    def test_nothing_empties_what_is_kept(self):
        for name in of_type("AWS::ECR::Repository"):
            self.assertNotIn("EmptyOnDelete", RESOURCES[name]["Properties"])

    def test_no_event_before_there_is_a_rule_and_no_rule_without_a_queue_that_takes_it(self):
        self.assertEqual(RESOURCES["WebhookFunction"]["DependsOn"], "EventsArrive")
        waits_for = set(named(RESOURCES["EventsArrive"]["Metadata"]))
        on_the_bus = {rule for rule in of_type("AWS::Events::Rule")
                      if "EventBus" in named(RESOURCES[rule]["Properties"].get("EventBusName"))}
        self.assertEqual(on_the_bus, {"JobQueuedRule", "JobLifecycleRule"})
        queues = {queue for rule in on_the_bus for queue in named(RESOURCES[rule]["Properties"]["Targets"])}
        policies = {policy for policy in of_type("AWS::SQS::QueuePolicy")
                    if queues & set(named(RESOURCES[policy]["Properties"]["Queues"]))}
        self.assertEqual(len(queues), len(policies))
        self.assertEqual(waits_for, on_the_bus | policies)


if __name__ == "__main__":
    unittest.main()

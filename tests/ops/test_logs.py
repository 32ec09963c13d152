"""Where a runner's log is, by its task definition: a stack's own, one that was there before, a class's."""

import unittest
from unittest import mock

from local import STACK

import logs
import stack as stacks
from botocore.exceptions import ClientError

ARN = "arn:aws:ecs:eu-west-1:1:task/mine/0123"


class Logs(unittest.TestCase):
    def told(self, options, log_class="STANDARD", **line):
        """What is said of the runner, whose container logs so, and the definition that was asked for."""
        definition = {"containerDefinitions": [{"name": "side"}, {"name": "runner", "logConfiguration": {"options": options}}]}
        asks = {"return_value": {"taskDefinition": definition}} if options is not None else {
            "side_effect": ClientError({"Error": {"Code": "AccessDeniedException"}}, "DescribeTaskDefinition")}
        groups = [{"logGroupName": "/ecs/mine-2"}, {"logGroupName": "/ecs/mine", "logGroupClass": log_class}]
        clients = {"ecs": mock.Mock(**{f"describe_task_definition.{how}": it for how, it in asks.items()}),
                   "logs": mock.Mock(**{"describe_log_groups.return_value": {"logGroups": groups}})}
        found = {"Parameters": [{"ParameterKey": "TaskDefinitionFamily", "ParameterValue": "family"},
                                {"ParameterKey": "ContainerName", "ParameterValue": "runner"}]}
        lines = [{"timestamp": "1", "task": ARN, **line}, {"timestamp": "2", "task": ARN}]
        with mock.patch.object(stacks, "get", return_value=found), mock.patch.object(logs, "read", return_value=lines):
            *_, said = logs.story(clients.__getitem__, STACK, "4711")
        return said, clients["ecs"].describe_task_definition.call_args.kwargs["taskDefinition"]

    def test_where_it_is(self):
        options = {"awslogs-group": "/ecs/mine", "awslogs-stream-prefix": "own"}
        said, asked = self.told(options)
        self.assertEqual((said, asked), (
            "its runner: aws logs tail /ecs/mine --since 14d --log-stream-names own/runner/0123", "family"))
        said, asked = self.told(options, "INFREQUENT_ACCESS", definition="arn:…:task-definition/family-gpu:7")
        self.assertEqual((said, asked), (
            'its runner: Logs Insights, of /ecs/mine: fields @message | filter @logStream = "own/runner/0123" | sort @timestamp',
            "arn:…:task-definition/family-gpu:7"))

    def test_where_it_cannot_be_told(self):
        for options, why in (({"awsfirelens": "x"}, "not in CloudWatch"), (None, "AccessDenied")):
            said, _ = self.told(options)
            self.assertTrue(said.startswith(f"its runner: {ARN}, whose log is where family has it"), said)
            self.assertIn(why, said)


if __name__ == "__main__":
    unittest.main()

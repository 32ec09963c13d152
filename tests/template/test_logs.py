"""What jobs print must not become metrics of ours where the operator says so."""

import unittest

from policies import Stack
from test_policies import TEMPLATE


class RunnersLogs(unittest.TestCase):
    def group(self, **parameters):
        stack = Stack(TEMPLATE, TaskDefinitionFamily="runners", **parameters)
        properties = stack.resolve(stack.template["Resources"]["RunnerLogGroup"]["Properties"])
        return properties["LogGroupName"], properties.get("LogGroupClass")

    def test_each_class_is_a_group_of_its_own(self):
        # Unset, and not STANDARD: that would be a change of a group of before, which CloudFormation refuses.
        self.assertEqual(self.group(), ("/ecs/runners", None))
        infrequent = self.group(RunnerLogClass="INFREQUENT_ACCESS")
        self.assertEqual(infrequent, ("/ecs/runners-infrequent", "INFREQUENT_ACCESS"))

    def test_the_functions_own_logs_are_read_as_metrics(self):
        resources = Stack(TEMPLATE, RunnerLogClass="INFREQUENT_ACCESS").template["Resources"]
        functions = [name for name, it in resources.items() if it["Type"] == "AWS::Logs::LogGroup"
                     and "/aws/lambda/" in str(it["Properties"]["LogGroupName"])]
        self.assertEqual(len(functions), 4)
        for name in functions:
            self.assertNotIn("LogGroupClass", resources[name]["Properties"], name)


if __name__ == "__main__":
    unittest.main()

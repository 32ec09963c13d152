"""An alarm on a metric that nothing emits stays green for ever."""

import re
import unittest

from policies import Stack
from test_policies import TEMPLATE

# The function that a metric of the project's own is counted by.
SOURCES = {"WebhookFunction": ["src/flows/webhook.rs"], "DispatchFunction": ["src/lambda"], "ReconcileFunction": [
    "src/lambda", "src/flows/tend.rs", "src/flows/reconcile.rs", "src/flows/sweep.rs"]}


def words(place):
    """Every string in the source."""
    root = TEMPLATE.parent / place
    files = sorted(root.glob("*.rs")) if root.is_dir() else [root]
    return {word for file in files for word in re.findall(r'"(\w+)"', file.read_text(encoding="utf-8"))}


class Alarms(unittest.TestCase):
    def test_every_metric_of_ours_is_counted_by_its_function(self):
        resources = Stack(TEMPLATE).template["Resources"]
        ours = {name: alarm["Properties"] for name, alarm in resources.items()
                if alarm["Type"] == "AWS::CloudWatch::Alarm" and alarm["Properties"]["Namespace"] == "GhaFargateRunners"}
        self.assertIn("RefusedSignaturesAlarm", ours)
        for name, alarm in ours.items():
            with self.subTest(alarm=name):
                dimension, = alarm["Dimensions"]
                self.assertEqual(dimension["Name"], "FunctionName")
                counted = set().union(*map(words, SOURCES[dimension["Value"]["Ref"]]))
                self.assertIn(alarm["MetricName"], counted)


if __name__ == "__main__":
    unittest.main()

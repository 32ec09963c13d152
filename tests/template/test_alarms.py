"""An alarm on a metric that nothing emits stays green for ever, and one that nobody understands is switched off."""

import re
import unittest

from policies import Stack
from test_policies import TEMPLATE

ROOT = TEMPLATE.parent
RESOURCES = Stack(TEMPLATE).template["Resources"]
ALARMS = {name: resource["Properties"] for name, resource in RESOURCES.items()
          if resource["Type"] == "AWS::CloudWatch::Alarm"}
# Where a function counts.
SOURCES = {
    "WebhookFunction": ["flows/webhook.rs", "bin/webhook.rs"],
    "DispatchFunction": ["lambda/*.rs"],
    "ReconcileFunction": ["lambda/*.rs", "flows/tend.rs", "flows/announce.rs", "flows/cause.rs", "flows/reconcile.rs", "flows/tally.rs", "flows/taken.rs", "flows/pools.rs"],
    "RedeliverFunction": ["lambda/*.rs", "flows/tally.rs"],
}
PARTS = ["Means", "Confirm", "Fix", "Over"]


def words(pattern, *places):
    """All that the pattern finds in these files below src."""
    files = [file for place in places for file in (ROOT / "src").glob(place)]
    return {word for file in files for word in re.findall(pattern, file.read_text(encoding="utf-8"))}


def counted(function):
    """The metrics of the project's own that the function's code names."""
    return words(r"\bMetric::([A-Z]\w+)", *SOURCES[function])


def queries(alarm):
    """Of an alarm on several metrics, as it is in a stack that has everything."""
    for query in alarm.get("Metrics", []):
        query = query["Fn::If"][1] if "Fn::If" in query else query
        expression = query.get("Expression")
        yield query | {"Expression": expression["Fn::If"][1]} if isinstance(expression, dict) else query


def metrics(alarm):
    """What an alarm looks at: (id, metric, statistic, period)."""
    for query in queries(alarm):
        if "MetricStat" in query:
            stat = query["MetricStat"]
            yield query["Id"], stat["Metric"], stat["Stat"], stat["Period"]
    if "MetricName" in alarm:
        yield "only", alarm, alarm["Statistic"], alarm["Period"]


def sections():
    """Anchor -> text of each section under "Alarms" in the runbook."""
    text = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    alarms = re.search(r"^## Alarms\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]
    found = re.split(r"^### (\w+)\n", alarms, flags=re.MULTILINE)
    return {name.lower(): body for name, body in zip(found[1::2], found[2::2])}


class Metrics(unittest.TestCase):
    def test_every_metric_of_ours_is_counted_by_its_function(self):
        ours = [(name, metric) for name, alarm in ALARMS.items() for _, metric, *_ in metrics(alarm)
                if metric["Namespace"] == "GhaFargateRunners"]
        self.assertIn("RefusedSignaturesAlarm", [name for name, _ in ours])
        for name, metric in ours:
            with self.subTest(alarm=name, metric=metric["MetricName"]):
                dimension, = metric["Dimensions"]
                self.assertEqual(dimension["Name"], "FunctionName")
                self.assertIn(metric["MetricName"], counted(dimension["Value"]["Ref"]))

    def test_expressions_name_their_metrics_and_return_one_value(self):
        for name, alarm in ALARMS.items():
            for query in queries(alarm):
                if "Expression" in query:
                    with self.subTest(alarm=name):
                        used = set(re.findall(r"\b[a-z]\w*\b", query["Expression"]))
                        self.assertEqual(used, {id_ for id_, *_ in metrics(alarm)})
                else:
                    self.assertIs(query["ReturnData"], False, name)
            with self.subTest(alarm=name):
                self.assertEqual(len({period for *_, period in metrics(alarm)}), 1)


class Cost(unittest.TestCase):
    def test_the_runbook_says_how_many_metrics_are_watched(self):
        watched = sum(len(list(metrics(alarm))) for name, alarm in ALARMS.items() if RESOURCES[name].get("Condition") != "ImagePipeline")
        text = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
        self.assertIn(f"alarms on {watched} metrics", " ".join(text.split()))


class Runbook(unittest.TestCase):
    def test_every_alarm_links_to_its_section_and_every_section_is_linked_to(self):
        linked = set()
        for name, alarm in ALARMS.items():
            with self.subTest(alarm=name):
                link = re.search(r"What to do: docs/operate\.md#(\w+)$", alarm["AlarmDescription"])
                self.assertTrue(link, alarm["AlarmDescription"])
                linked.add(link[1])
        self.assertEqual(linked, sections().keys())

    def test_every_section_says_what_how_and_until_when(self):
        for name, text in sections().items():
            with self.subTest(section=name):
                self.assertEqual(re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE), PARTS)

    def test_the_table_has_every_alarm_under_its_topic(self):
        text = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
        pages, tickets = re.search(r"^\| (\[.*?) \| (\[.*?) \|$", text, re.MULTILINE).groups()
        for name, alarm in ALARMS.items():
            anchor = alarm["AlarmDescription"].rsplit("#", 1)[1]
            is_page = "OKActions" in alarm
            with self.subTest(alarm=name):
                self.assertIn(f"(#{anchor})", pages if is_page else tickets)
                self.assertNotIn(f"(#{anchor})", tickets if is_page else pages)


class Topics(unittest.TestCase):
    def test_pages_and_tickets(self):
        page, ticket = "arn:aws:sns:eu-west-1:111122223333:page", "arn:aws:sns:eu-west-1:111122223333:ticket"
        told = {(): ([], []), ("AlarmTopicArn",): ([page], [page]), ("TicketTopicArn",): ([], [ticket]),
                ("AlarmTopicArn", "TicketTopicArn"): ([page], [ticket])}
        for given, (pages, tickets) in told.items():
            topics = {"AlarmTopicArn": page, "TicketTopicArn": ticket}
            stack = Stack(TEMPLATE, **{name: topics[name] for name in given})
            for name, alarm in ALARMS.items():
                with self.subTest(alarm=name, given=given):
                    told_of = stack.resolve({"actions": alarm["AlarmActions"]}).get("actions", [])
                    self.assertEqual(told_of, pages if "OKActions" in alarm else tickets)


if __name__ == "__main__":
    unittest.main()

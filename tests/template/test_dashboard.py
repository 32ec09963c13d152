"""A graph of a metric that nothing emits is empty, and so is the answer to a query for a field that no line has."""

import html
import itertools
import re
import unittest

from policies import Stack
from test_alarms import ALARMS, RESOURCES, ROOT, counted, words
from test_policies import MODES, TEMPLATE

# What is asked of AWS's own metrics.
OF_AWS = {
    "AWS/SQS": {"ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible"},
    "AWS/Lambda": {"Throttles", "Errors"},
    "AWS/Usage": {"ResourceCount"},
}
METRICS = words(r"(?m)^    (\w+): \w+,$", "lambda/metric.rs")
QUERIES = {name: resource["Properties"] for name, resource in RESOURCES.items()
           if resource["Type"] == "AWS::Logs::QueryDefinition"}
# The words of the query language that are used.
LANGUAGE = {"filter", "display", "sort", "stats", "count", "count_distinct", "max", "latest", "by", "as", "in", "like",
            "desc", "or", "limit", "SOURCE", "ispresent", "sum"}


def dashboard(mode):
    return Stack(TEMPLATE, **MODES[mode]).dashboard()


def fields():
    """What a line of a function's log may have."""
    batch = (ROOT / "src" / "lambda" / "batch.rs").read_text(encoding="utf-8")
    line = re.search(r"tracing::event!\(\s*\$level,(.*?)\"\{detail\}\"", batch, re.DOTALL)[1]
    metrics = (ROOT / "src" / "lambda" / "metrics.rs").read_text(encoding="utf-8")
    used = re.search(r"pub fn used.*?json!\(\{(.*?)\}\)", metrics, re.DOTALL)[1]
    return (set(re.findall(r"^\s*(\w+)(?: =|,)", line, re.MULTILINE)) | set(re.findall(r'"(\w+)":', used))
            | METRICS | {"level", "message", "timestamp"})


def asked(query):
    """The fields that a query names."""
    query = re.sub(r"#.*|\"[^\"]*\"|'[^']*'|like /[^/]*/", " ", query)
    made = set(re.findall(r"\bas (\w+)", query))
    return set(re.findall(r"[A-Za-z]\w*", query)) - LANGUAGE - made


class Dashboard(unittest.TestCase):
    def test_every_metric_is_emitted(self):
        seen = set()
        for widget in dashboard("dispatcher-minted"):
            for metric in widget["properties"].get("metrics", []):
                if isinstance(metric[0], dict):
                    continue
                namespace, name, *dimensions = [part for part in metric if isinstance(part, str)]
                with self.subTest(widget=widget["properties"]["title"], metric=name):
                    if namespace == "GhaFargateRunners":
                        self.assertEqual(dimensions[0], "FunctionName")
                        self.assertIn(name, counted(dimensions[1].rsplit(":", 1)[1]))
                        seen.add(name)
                    else:
                        self.assertIn(name, OF_AWS[namespace])
        self.assertIn("Started", seen)

    def test_all_alarms_are_there(self):
        for mode in ("dispatcher-minted", "image pipeline"):
            stack = Stack(TEMPLATE, **MODES[mode])
            there = {stack.arn(name) for name in ALARMS
                     if stack.creates(name)}
            shown = {alarm for widget in dashboard(mode) for alarm in widget["properties"].get("alarms", [])}
            with self.subTest(mode=mode):
                self.assertEqual(shown, there)

    def test_widgets_lie_side_by_side(self):
        taken = set()
        for widget in dashboard("image pipeline"):
            for place in itertools.product(range(widget["x"], widget["x"] + widget["width"]),
                                           range(widget["y"], widget["y"] + widget["height"])):
                self.assertLess(place[0], 24)
                self.assertNotIn(place, taken, widget["properties"]["title"])
                taken.add(place)


    def test_the_picture_in_the_docs_is_of_this_dashboard(self):
        picture = (ROOT / "docs" / "pictures" / "dashboard.svg").read_text(encoding="utf-8")
        shown = {html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", picture)}
        wanted = set()
        for properties in (widget["properties"] for widget in dashboard("dispatcher-minted")):
            wanted |= {properties["title"]} | {arn.rsplit(":", 1)[1].removesuffix("Alarm") for arn in properties.get("alarms", [])}
            for metric in properties.get("metrics", []):
                options = metric[-1] if isinstance(metric[-1], dict) else {}
                if options.get("visible", True):
                    wanted.add(options.get("label", metric[1] if len(metric) > 1 else ""))
        self.assertEqual(wanted - shown, set(), "make dashboard-picture draws it anew")


class Queries(unittest.TestCase):
    def test_every_field_is_logged(self):
        texts = {name: query["QueryString"] for name, query in QUERIES.items()}
        texts |= {widget["properties"]["title"]: widget["properties"]["query"]
                  for widget in dashboard("dispatcher-minted") if widget["type"] == "log"}
        self.assertIn("job", fields())
        for name, text in texts.items():
            with self.subTest(query=name):
                self.assertEqual(asked(text) - fields(), set())

    def test_every_reason_is_one(self):
        known = METRICS | words(r'"(\w+)"', "lambda/*.rs", "flows/*.rs")
        for name, query in QUERIES.items():
            for text in re.findall(r'"(\w+)"', re.sub("#.*", "", query["QueryString"])):
                with self.subTest(query=name, text=text):
                    self.assertIn(text, known | {"ERROR"})

    def test_the_runbook_names_the_queries(self):
        text = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
        named = set(re.findall(r"saved query \*([^*]+)\*", text))
        saved = {query["Name"]["Fn::Sub"].split("/", 1)[1] for query in QUERIES.values()}
        self.assertLessEqual(named, saved)
        self.assertLessEqual(saved, set(re.findall(r"\*([a-z ]+)\*", text)))


if __name__ == "__main__":
    unittest.main()

"""The published schema of runner classes, held against the documents that the program takes and refuses
(src/intake/classes/tests.rs reads the same file), and the policies that a stack with classes has."""

import copy
import json
import pathlib
import re
import unittest

import jsonschema

from policies import ACCOUNT, Stack, allowed
from test_policies import TEMPLATE, TOKEN

ROOT = pathlib.Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs/classes.schema.json").read_text())
CASES = json.loads((ROOT / "tests/fixtures/classes.json").read_text())


def changed(document, place, value):
    document = copy.deepcopy(document)
    *way, last = place.strip("/").split("/")
    at = document
    for step in way:
        at = at[int(step) if isinstance(at, list) else step]
    at[int(last) if isinstance(at, list) else last] = value
    return document


class Schema(unittest.TestCase):
    def setUp(self):
        jsonschema.Draft7Validator.check_schema(SCHEMA)
        self.validator = jsonschema.Draft7Validator(SCHEMA)

    def test_good_and_bad_documents(self):
        self.assertTrue(self.validator.is_valid(CASES["document"]))
        for case in CASES["changes"]:
            with self.subTest(at=case["at"], to=case["to"]):
                document = changed(CASES["document"], case["at"], case["to"])
                self.assertEqual(self.validator.is_valid(document), case["schema"])
                self.assertLessEqual(case["program"], case["schema"], "what the schema refuses, the program refuses")

    def test_the_example_of_the_page(self):
        page = (ROOT / "docs/classes.md").read_text()
        self.validator.validate(json.loads(re.search(r"```json\n(.*?)```", page, re.S)[1]))
        inline = re.search(r"RunnerClasses=(\{.*\})'", page)[1]
        self.validator.validate(json.loads(inline))
        self.assertEqual(Stack(TEMPLATE, GitHubSecretArn=TOKEN, Organization="acme", RunnerClasses=inline).refusals(), [])

    def test_the_page_has_each_field(self):
        page = (ROOT / "docs/classes.md").read_text()
        for field in SCHEMA["properties"]["classes"]["items"]["properties"]:
            self.assertIn(f"| `{field}`", page)


class Policies(unittest.TestCase):
    def test_what_classes_need(self):
        arn = f"arn:aws:ecs:eu-west-1:{ACCOUNT}:"
        given = {"GitHubSecretArn": TOKEN, "RunnerClasses": "s3://acme-settings/a/classes.json", "PassRoleArns": f"arn:aws:iam::{ACCOUNT}:role/gpu"}
        plain, stack = Stack(TEMPLATE, GitHubSecretArn=TOKEN), Stack(TEMPLATE, **given)
        in_place = Stack(TEMPLATE, **given | {"RunnerClasses": '{"version": 1}'})
        family = stack.parameters["TaskDefinitionFamily"]
        cluster = {"ecs:cluster": f"{arn}cluster/{stack.parameters['ClusterName']}"}
        passed = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
        object_, run = "arn:aws:s3:::acme-settings/a/classes.json", f"{arn}task-definition/{family}-gpu:7"
        table = [
            (stack, "WebhookRole", "s3:GetObject", object_, {}, True), (stack, "DispatchRole", "s3:GetObject", object_, {}, True),
            (stack, "ReconcileRole", "s3:GetObject", object_, {}, True),
            (stack, "DispatchRole", "s3:GetObject", "arn:aws:s3:::acme-settings/other.json", {}, False),
            (plain, "DispatchRole", "s3:GetObject", object_, {}, False), (in_place, "DispatchRole", "s3:GetObject", object_, {}, False),
            (stack, "DispatchRole", "ecs:RunTask", run, cluster, True), (in_place, "DispatchRole", "ecs:RunTask", run, cluster, True),
            (plain, "DispatchRole", "ecs:RunTask", run, cluster, False),
            (stack, "DispatchRole", "ecs:RunTask", f"{arn}task-definition/others:1", cluster, False),
            (stack, "DispatchRole", "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/gpu", passed, True),
            (stack, "DispatchRole", "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/other", passed, False),
            # For the pools of classes.
            (stack, "ReconcileRole", "ecs:RunTask", run, cluster, True), (plain, "ReconcileRole", "ecs:RunTask", run, cluster, False),
            (stack, "ReconcileRole", "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/gpu", passed, True),
        ]
        for of, role, action, resource, context, want in table:
            with self.subTest(role=role, action=action, resource=resource):
                self.assertEqual(allowed(of.of_role(role), [], action, resource, context), want)


if __name__ == "__main__":
    unittest.main()

"""The doctor and the functions may be of two releases: what it asks them and what they answer keeps its form."""

import json
import unittest
from unittest import mock

from world import ROOT

import doctor
from finding import Seen

FORMS = sorted((ROOT / "tests" / "fixtures" / "formats").glob("[0-9]*"), key=lambda path: int(path.name))
OUTPUTS = {"ReconcileFunctionName": "reconcile", "WebhookUrl": "https://0123456789.lambda-url.us-east-1.on.aws/"}


def kept(file):
    return [json.loads((form / file).read_text()) for form in FORMS if (form / file).exists()]


class Doctor(unittest.TestCase):
    def answered(self, answer, outputs=OUTPUTS):
        """What it asks, and what it takes from the answer."""
        stack = mock.Mock()
        stack.invoke.return_value = answer
        found = doctor.functions_own(Seen(stack, outputs, {"RerunInterrupted": "1", "CheckRuns": "true"}))
        return stack.invoke.call_args, found

    def test_it_asks_as_the_newest_form_does(self):
        (name, question), _ = self.answered({"checks": []})[0]
        self.assertEqual(name, "reconcile")
        self.assertEqual(question, kept("doctor-question.json")[-1], "another form: tests/fixtures/formats/README.md")

    def test_each_form_of_an_answer_is_told(self):
        for fields in kept("doctor.json"):
            said = dict.fromkeys(fields, "x") | {"status": "fail", "what": "it is so"}
            for status, mark in (("ok", "ok"), ("warn", "warn"), ("fail", "FAIL"), ("unknown", "unknown"), ("later", "unknown")):
                answer = {"checks": [said | {"status": status, "later": 1}], "later": 1}
                _, found = self.answered(answer)
                self.assertRegex(doctor.table(found), f"^{mark} +it is so")

    def test_a_stack_of_a_release_before_is_asked_too(self):
        """It has no author, and may have no webhook of its own."""
        for outputs in (OUTPUTS, {"ReconcileFunctionName": "reconcile"}):
            asked, _ = self.answered({"checks": []}, outputs)
            self.assertIsNotNone(asked)
        self.assertIsNone(self.answered({"checks": []}, {})[0])


if __name__ == "__main__":
    unittest.main()

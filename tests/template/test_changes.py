"""What changing a parameter does is told in the runbook as it is, and what would strand runners is refused."""

import os
import re
import unittest

from changes import FIRST_GIVEN, LIVED_IN, every_change, names, of_every_parameter, resources, table
from test_policies import TEMPLATE

ROOT = TEMPLATE.parent
RUNBOOK = ROOT / "docs" / "operate.md"

# Somebody has to say it; nothing comes of it.
ONLY_SAID = {"TaskPoliciesForDefaultGroup"}
# Nothing is made anew; but runners are known by it.
NAMES_RUNNERS = {"RunnerNamePrefix"}


class Changes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.changes = of_every_parameter()

    def test_the_runbook_has_the_table(self):
        text = RUNBOOK.read_text(encoding="utf-8")
        begin, end = "<!-- changes -->\n", "<!-- /changes -->"
        right = re.sub(f"(?<={begin}).*(?={end})", lambda _: "\n".join(table(self.changes)) + "\n", text, flags=re.DOTALL)
        if os.environ.get("UPDATE_EXPECT"):
            RUNBOOK.write_text(right, encoding="utf-8")
        else:
            self.assertEqual(text, right, "UPDATE_EXPECT=1 writes it")

    def test_every_parameter_changes_something(self):
        for name, sides in self.changes.items():
            with self.subTest(parameter=name):
                self.assertEqual(any(sides), name not in ONLY_SAID)

    def test_nothing_is_made_anew_under_a_name_that_is_taken(self):
        """CloudFormation makes the new one before it deletes the old one."""
        for name, (anew, _, _) in self.changes.items():
            before, after = map(resources, every_change()[name] if anew else ({}, {}))
            for resource in anew:
                with self.subTest(change=name, resource=resource):
                    old, new = names(before[resource]), names(after[resource])
                    # An event source mapping has none of its own: it names its function.
                    same = {path for path in old if old[path] == new.get(path) and not path.endswith("/FunctionName")}
                    self.assertEqual(same, set())

    def test_what_would_strand_runners_or_jobs_is_refused_while_there_are_some(self):
        strands = {name for name, (anew, other, _) in self.changes.items() if LIVED_IN & (anew | other)}
        source = (ROOT / "ops" / "deploy.py").read_text(encoding="utf-8")
        told = {name: set(re.findall(r'"(\w+)"', re.search(rf"^{name} = \[(.*)\]", source, re.MULTILINE)[1]))
                for name in ("STRANDS", "STRANDS_WHERE_NONE_WAS")}
        self.assertEqual(told["STRANDS"], strands - {FIRST_GIVEN} | NAMES_RUNNERS)
        self.assertIn(FIRST_GIVEN, strands)
        self.assertEqual(told["STRANDS_WHERE_NONE_WAS"], set(re.findall(r"\w+Ids", FIRST_GIVEN)))


if __name__ == "__main__":
    unittest.main()

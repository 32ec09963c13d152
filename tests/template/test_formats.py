"""What the stack's rules put on the queues is the form that is kept (tests/fixtures/formats), which functions of two releases read."""

import json
import re
import unittest

from policies import Stack
from test_policies import TEMPLATE

ROOT = TEMPLATE.parent
FORMS = sorted((ROOT / "tests/fixtures/formats").glob("[0-9]*"), key=lambda path: int(path.name))


def transformed(transformer, event):
    """As EventBridge does it: a variable in quotes is text, any other is JSON."""
    def found(path):
        at = event
        for step in path.removeprefix("$.").split("."):
            at = at.get(step, "")
        return at

    values = {name: found(path) for name, path in transformer["InputPathsMap"].items()}
    text = re.sub('"<([A-Za-z]+)>"', lambda match: json.dumps(values[match[1]]), transformer["InputTemplate"])
    return json.loads(re.sub("<([A-Za-z]+)>", lambda match: json.dumps(values[match[1]]), text))


class Rules(unittest.TestCase):
    def test_a_stopped_task(self):
        rule = Stack(TEMPLATE).template["Resources"]["TaskStoppedRule"]["Properties"]
        target, = rule["Targets"]
        whole = json.loads((ROOT / "tests/fixtures/ecs/task-stopped.json").read_text())
        left = transformed(target["InputTransformer"], whole)
        self.assertEqual(left, json.loads((FORMS[-1] / "task-stopped.json").read_text()),
                         "another form than a release before writes: tests/fixtures/formats/README.md")
        self.assertNotIn("overrides", json.dumps(left))


if __name__ == "__main__":
    unittest.main()

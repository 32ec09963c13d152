"""The list of what a release is made of is what CycloneDX's own schema says such a list is."""

import json
import sys
import unittest

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from test_policies import TEMPLATE

ROOT = TEMPLATE.parent
sys.path.append(str(ROOT / "ops"))

import sbom  # noqa: E402


class Sbom(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bom = sbom.of(sbom.metadata(ROOT), (ROOT / "Cargo.lock").read_text(encoding="utf-8"))
        cls.validator = JsonStrictValidator(SchemaVersion.from_version(cls.bom["specVersion"]))

    def mistakes(self, bom):
        return self.validator.validate_str(json.dumps(bom))

    def test_it_is_one(self):
        self.assertIsNone(self.mistakes(self.bom))
        self.assertGreater(len(self.bom["components"]), 100)

    def test_the_schema_sees_what_is_wrong(self):
        first, *rest = self.bom["components"]
        for wrong in (first | {"type": "crate"}, first | {"hashes": [{"alg": "SHA-256", "content": "x"}]},
                      first | {"licenses": [{"expression": 7}]}, {key: it for key, it in first.items() if key != "name"}):
            with self.subTest(wrong=wrong):
                self.assertIsNotNone(self.mistakes(self.bom | {"components": [wrong, *rest]}))


if __name__ == "__main__":
    unittest.main()

"""Commands in the documentation, as they stand there; and words that make refuses."""

import re
import subprocess
import unittest

from world import ROOT

DOCUMENTS = ["README.md", "docs/install.md"]


def make(*arguments):
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True)


class Commands(unittest.TestCase):
    def test_each_is_one_that_make_knows(self):
        for document in DOCUMENTS:
            text = (ROOT / document).read_text()
            blocks = re.findall(r"^\s*```sh\n(.*?)^\s*```", text, re.DOTALL | re.MULTILINE)
            commands = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
            commands += re.findall(r"`(make [^`]+)`", text)
            commands = [command for command in commands if command.startswith("make ")]
            self.assertTrue(commands, document)
            for command in commands:
                with self.subTest(document=document, command=command):
                    told = make("--dry-run", *command.split()[1:])
                    self.assertEqual(told.returncode, 0, told.stderr)

    def test_setup_takes_every_variable_that_is_documented(self):
        text = (ROOT / "docs/install.md").read_text()
        for variable in set(re.findall(r"`?([A-Z_]+)=\S", text)) - {"AWS_REGION", "PARAMETERS", "JSON"}:
            with self.subTest(variable=variable):
                value = "https://x.example" if variable == "GITHUB" else "7"
                without, given = (make("--dry-run", "setup", *more).stdout for more in (["ORG=acme"], ["ORG=acme", f"{variable}={value}"]))
                self.assertNotEqual(without, given)

    def test_pages_that_are_linked_are_there(self):
        for document in DOCUMENTS:
            path = ROOT / document
            for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
                self.assertTrue((path.parent / link).exists(), f"{document}: {link}")


class Refused(unittest.TestCase):
    def test_before_anything_is_built(self):
        table = [(("demo", "MODE=both"), "MODE=both: it should be one of dispatcher-minted container-minted"),
                 (("demo", "MODE="), "MODE=: it should be one of"),
                 (("invoke", "EVENT=nothing"), "EVENT=nothing: it should be one of queued"),
                 (("setup", "ORG="), "Which organisation? make setup ORG=acme"),
                 (("logs", "JOB="), "Which job? make logs JOB=2832853601")]
        for arguments, told in table:
            with self.subTest(arguments=arguments):
                refused = make(*arguments)
                self.assertEqual(refused.returncode, 2)
                self.assertIn(told, refused.stderr)
                self.assertNotIn("building", refused.stdout)


if __name__ == "__main__":
    unittest.main()

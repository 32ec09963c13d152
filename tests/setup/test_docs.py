"""The documentation: links lead somewhere, commands and workflows are what the programs take; and words that make refuses."""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import yaml

from world import BINARIES, CREDENTIALS, ROOT, LocalAws

sys.path.append(str(ROOT / "tests" / "template"))

from policies import Stack  # noqa: E402

DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "events" / "README.md"]
# Of GitHub's own pages beside the repository.
PAGES = {"../../releases/latest"}


def make(*arguments, **environment):
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, env=os.environ | environment)


def without_code(text):
    return re.sub(r"^\s*```.*?^\s*```|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)


def blocks(path, kind):
    return [block for _, block in re.findall(rf"^( *)```{kind}\n(.*?)^\1```", path.read_text(), re.DOTALL | re.MULTILINE)]


def anchors(path):
    """As GitHub makes them of headings."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    found = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower())
        found.add(words.strip().replace(" ", "-"))
    return found


class Links(unittest.TestCase):
    def test_each_leads_somewhere(self):
        count = 0
        for path in DOCUMENTS:
            links = re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text()).replace("\n", " "))
            for link in links:
                if re.match(r"https?://", link) or link in PAGES:
                    continue
                with self.subTest(document=path.name, link=link):
                    count += 1
                    file, _, anchor = link.partition("#")
                    target = (path.parent / file).resolve() if file else path
                    self.assertTrue(target.exists())
                    if anchor:
                        self.assertIn(anchor, anchors(target))
        self.assertGreater(count, 50)

    def test_each_page_is_linked_to(self):
        readme = (ROOT / "README.md").read_text()
        for path in ROOT.glob("docs/*.md"):
            self.assertIn(f"docs/{path.name}", readme)

    def test_what_is_sent_to_developers_stands_by_itself(self):
        links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / "docs" / "use-it.md").read_text())
        self.assertTrue(all(link.startswith(("https://", "#")) for link in links), links)

    def test_what_programs_say_leads_somewhere(self):
        sources = [*ROOT.glob("setup/*.py"), *ROOT.glob("ops/*.py"), *ROOT.glob("src/**/*.rs"), ROOT / "template.yaml"]
        links = {link for path in sources for link in re.findall(r"\b(docs/[a-z-]+\.md)(?:#([a-z0-9-]+))?", path.read_text())}
        self.assertGreater(len(links), 10)
        for file, anchor in links:
            with self.subTest(link=f"{file}#{anchor}"):
                self.assertTrue((ROOT / file).exists())
                if anchor:
                    self.assertIn(anchor, anchors(ROOT / file))


class Commands(unittest.TestCase):
    def test_each_is_one_that_make_knows(self):
        count = 0
        for path in DOCUMENTS:
            lines = [line.split("#")[0].strip() for block in blocks(path, "sh")
                     for line in block.replace("\\\n", " ").splitlines()]
            lines += re.findall(r"`(make [^`]+)`", path.read_text())
            for command in [line for line in lines if line.startswith("make ") and "…" not in line and "..." not in line]:
                with self.subTest(document=path.name, command=command):
                    count += 1
                    arguments = shlex.split(command)[1:]
                    arguments += ["ORG=acme"] * (arguments[0] == "setup" and "ORG=acme" not in arguments)
                    told = make("--dry-run", *arguments)
                    self.assertEqual(told.returncode, 0, told.stderr)
        self.assertGreater(count, 30)

    def test_the_doctor_is_run_as_it_stands_there(self):
        self.assertIn("make doctor ", "".join(blocks(ROOT / "README.md", "sh")))
        with LocalAws() as aws:
            told = make("doctor", **CREDENTIALS, AWS_ENDPOINT_URL=aws.endpoint, AWS_CONFIG_FILE=os.devnull,
                        AWS_SHARED_CREDENTIALS_FILE=os.devnull)
        self.assertEqual(told.returncode, 2)
        self.assertIn("there is no stack gha-fargate-runners in us-east-1; way on: make setup", told.stderr)

    def test_setup_is_run_as_it_stands_there(self):
        """Without credentials, so that it ends at its first step; from there on, test_setup.py has its own GitHub."""
        nobody = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "AWS_CONFIG_FILE": os.devnull,
                  "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}
        for path in (ROOT / "README.md", ROOT / "docs" / "install.md"):
            lines = [line.split("#")[0].strip() for block in blocks(path, "sh") for line in block.splitlines()]
            command, = [line for line in lines if line.startswith("make setup")]
            block = "\n".join(line for line in lines if line.startswith(("export", "make setup")))
            # The README leaves that to install.md.
            says = "setup: no AWS credentials" if "AWS_REGION" in block else "setup: no Region is set; way on: export AWS_REGION="
            with self.subTest(document=path.name, command=command):
                told = subprocess.run(["bash", "-ec", block], cwd=ROOT, capture_output=True, text=True, env=nobody)
                self.assertIn(says, told.stderr)

    def test_parameters_that_are_shown_are_ones_that_the_stack_takes(self):
        shown = [given for path in DOCUMENTS
                 for given in re.findall(r'make deploy PARAMETERS="([^"…]+)"', path.read_text().replace("\\\n", " "))]
        self.assertGreaterEqual(len(shown), 2)
        for given in shown:
            with self.subTest(given=given):
                parameters = {"Organization": "acme"} | dict(pair.split("=", 1) for pair in shlex.split(given))
                # Stands for what everybody fills in.
                parameters = {name: value for name, value in parameters.items() if value != "..."}
                self.assertEqual(Stack(ROOT / "template.yaml", **parameters).refusals(), [])

    def test_help_lists_what_the_readme_names(self):
        told = make("help").stdout
        for line in "".join(blocks(ROOT / "README.md", "sh")).splitlines():
            self.assertIn(f"make {line.split()[1]} ", told)

    def test_setup_takes_every_variable_that_is_documented(self):
        text = (ROOT / "docs/install.md").read_text()
        for variable in set(re.findall(r"`?([A-Z_]+)=\S", text)) - {"AWS_REGION", "PATH", "PARAMETERS", "JSON", "DEEP", "BUNDLE"}:
            with self.subTest(variable=variable):
                value = "https://x.example" if variable == "GITHUB" else "7"
                without, given = (make("--dry-run", "setup", *more).stdout for more in (["ORG=acme"], ["ORG=acme", f"{variable}={value}"]))
                self.assertNotEqual(without, given)

    def test_the_doctor_takes_every_variable_that_is_documented(self):
        plain = make("--dry-run", "doctor").stdout
        for variable in ("JSON", "DEEP", "BUNDLE"):
            self.assertNotEqual(make("--dry-run", "doctor", f"{variable}=1").stdout, plain)


class Workflows(unittest.TestCase):
    def test_each_job_that_is_shown_gets_a_runner(self):
        shown = [(path.name, block) for path in DOCUMENTS for block in blocks(path, "yaml") if "runs-on:" in block]
        self.assertGreaterEqual(len(shown), 2)
        for name, block in shown:
            with self.subTest(document=name), tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "shown.yml"
                path.write_text(block)
                told = subprocess.run([BINARIES / "runner-labels", path], capture_output=True, text=True)
                self.assertEqual((told.returncode, told.stderr), (0, ""), told.stdout)

    def test_the_action_and_the_hook_are_whole(self):
        action = yaml.safe_load((ROOT / "action.yml").read_text())
        text = (ROOT / "docs" / "use-it.md").read_text()
        for given in re.findall(r"with: \{ (\w+):", text):
            self.assertIn(given, action["inputs"])
        hook, = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
        self.assertTrue(os.access(ROOT / hook["entry"], os.X_OK))
        self.assertRegex(".github/workflows/ci.yml", hook["files"])
        self.assertNotRegex("src/ci.yml", hook["files"])


class Size(unittest.TestCase):
    def test_the_readme_is_read_in_a_few_minutes(self):
        self.assertLess(len((ROOT / "README.md").read_bytes()), 5_500)


class Refused(unittest.TestCase):
    def test_before_anything_is_built(self):
        table = [(("demo", "MODE=both"), "MODE=both: it should be one of dispatcher-minted container-minted"),
                 (("demo", "MODE="), "MODE=: it should be one of"),
                 (("invoke", "EVENT=nothing"), "EVENT=nothing: it should be one of queued"),
                 (("build", "ARCHITECTURE=x64"), "ARCHITECTURE=x64: it should be one of x86_64 arm64"),
                 (("setup", "ORG="), "Which organisation? make setup ORG=acme"),
                 (("logs", "JOB="), "Which job? make logs JOB=2832853601")]
        for arguments, told in table:
            with self.subTest(arguments=arguments):
                refused = make(*arguments)
                self.assertEqual(refused.returncode, 2)
                self.assertIn(told, refused.stderr)
                self.assertNotIn("building", refused.stdout)
                self.assertNotIn("installing", refused.stdout)


if __name__ == "__main__":
    unittest.main()

"""What is installed or built here is what was looked at: pinned, with hashes; and what looks like a secret is known."""

import re
import subprocess
import tomllib
import unittest

import yaml
from test_policies import TEMPLATE

ROOT = TEMPLATE.parent
PINNED = re.compile(r"^([a-z0-9._-]+)(?:\[[a-z,-]+\])?==([^\s;\\]+)", re.MULTILINE)
# Tokens of GitHub's, keys of AWS's and private keys, each at its full length.
SECRETS = re.compile(rb"\bgh[opusr]_[A-Za-z0-9]{36}|\bAKIA(?!EXAMPLE)[A-Z0-9]{16}|PRIVATE KEY-----\\?n?\s*[A-Za-z0-9+/=]{48}")


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


class Python(unittest.TestCase):
    def test_every_package_has_a_version_and_hashes(self):
        for file in (ROOT / "requirements").glob("*.txt"):
            text = file.read_text(encoding="utf-8")
            for entry in re.split(r"^(?=[A-Za-z-])", text, flags=re.MULTILINE)[1:]:
                with self.subTest(file=file.name, entry=entry.split()[0]):
                    self.assertRegex(entry, PINNED)
                    self.assertIn("--hash=sha256:", entry)

    def test_what_is_asked_for_is_what_is_pinned(self):
        files = sorted((ROOT / "requirements").glob("*.in"))
        pinned = {it.stem for it in (ROOT / "requirements").glob("*.txt")} - {"guard"}  # one package without its dependencies
        self.assertEqual([file.stem for file in files], sorted(pinned))
        for file in files:
            asked = set(PINNED.findall(file.read_text(encoding="utf-8")))
            with self.subTest(file=file.name):
                self.assertTrue(asked)
                self.assertLessEqual(asked, set(PINNED.findall(file.with_suffix(".txt").read_text(encoding="utf-8"))))

    def test_pip_takes_nothing_else(self):
        for line in re.findall(r".*pip install.*", read("Makefile")):
            self.assertIn("--require-hashes --no-deps", line)


class Rust(unittest.TestCase):
    def test_the_compiler_is_named_and_new_enough(self):
        channel = tomllib.loads(read("rust-toolchain.toml"))["toolchain"]["channel"]
        least = tomllib.loads(read("Cargo.toml"))["package"]["rust-version"]
        self.assertRegex(channel, r"^\d+\.\d+\.\d+$")
        self.assertGreaterEqual([int(it) for it in channel.split(".")], [int(it) for it in least.split(".")])
        self.assertIn(f"FROM rust:{channel.rsplit('.', 1)[0]}-", read("image/Dockerfile"))

    def test_every_crate_has_a_checksum(self):
        for crate in tomllib.loads(read("Cargo.lock"))["package"]:
            if "source" in crate:
                self.assertIn("checksum", crate, crate["name"])

    def test_artefacts_name_no_path_of_the_machine(self):
        makefile = read("Makefile")
        self.assertIn("--remap-path-prefix=$(CURDIR)=/src", makefile)
        line, = [line for line in makefile.splitlines() if "cargo lambda build --locked --release" in line]
        self.assertIn("$(remap)", line)


class Release(unittest.TestCase):
    def test_only_what_is_tested_and_on_main_is_published(self):
        jobs = yaml.safe_load(read(".github/workflows/release.yml"))["jobs"]
        publish = jobs["publish"]
        self.assertEqual((set(publish["needs"]), publish["environment"]), ({"test", "build"}, "release"))
        ran = [step.get("run") for step in jobs["test"]["steps"]]
        self.assertIn("bash .ci/run", ran)
        self.assertIn("git merge-base --is-ancestor HEAD origin/main", ran)
        may_write = [name for name, job in jobs.items() if "write" in job.get("permissions", {}).values()]
        self.assertEqual(may_write, ["publish"])


class Secrets(unittest.TestCase):
    def test_what_looks_like_one_is_known_to_the_scanners(self):
        allowed = [path for it in tomllib.loads(read(".gitleaks.toml"))["allowlists"] for path in it["paths"]]
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        held = [name for name in listed.split("\0") if name and (ROOT / name).is_file() and SECRETS.search((ROOT / name).read_bytes())]
        self.assertIn("tests/fixtures/app-key.pem", held)
        self.assertEqual([name for name in held if not any(re.search(path, name) for path in allowed)], [])
        used = [path for path in allowed if not any(re.search(path, name) for name in held)]
        self.assertEqual(used, [], "nothing is allowed in vain")


if __name__ == "__main__":
    unittest.main()

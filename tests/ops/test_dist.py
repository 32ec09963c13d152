"""A release: the same bytes for the same commit, whole, deployable without a build, and refused where it is another's.

The binaries are stand-ins: what is packed is looked at here, what is built in two places is compared by the release workflow.
"""

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "ops"), str(ROOT / "demo")]

import deploy as deploying  # noqa: E402
import dist  # noqa: E402
import package  # noqa: E402
import sbom  # noqa: E402
from local_aws import LocalAws, TemplateLoader, begin, only_looks, wait_until  # noqa: E402
from stack import Failure, outputs  # noqa: E402

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CARGO = sbom.metadata(ROOT)


class Dist(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def built(self, where, mtime, umask=0o022, turned=False):
        """Binaries that say which they are, and the files of the checkout, in another order, of another time and owner's mask."""
        before = os.umask(umask)
        root = self.folder / where / "checkout"
        shutil.copytree(ROOT / "image", root / "image")
        for name in ("template.yaml", "Cargo.toml", "Cargo.lock", "CHANGELOG.md"):
            shutil.copyfile(ROOT / name, root / name)
        names = [(a, n) for a in package.ARCHITECTURES for n in (*package.FUNCTIONS, dist.TOOL)]
        for architecture, name in reversed(names) if turned else names:
            path = root / "target" / architecture / name / "bootstrap"
            path.parent.mkdir(parents=True)
            path.write_bytes(f"{name} for {architecture}".encode())
        for path in root.rglob("*"):
            os.utime(path, (mtime, mtime))
        os.umask(before)
        return root

    def write(self, root, **how):
        folder = root / "dist"
        told = list(dist.write(folder, root / "target", root, **{"commit": COMMIT, "metadata": CARGO} | how))
        return folder, told

    def release(self):
        root = self.built("here", 1_000_000_000)
        return root, self.write(root)[0]

    def test_two_builds_agree(self):
        one, _ = self.write(self.built("one", 1_000_000_000))
        other, _ = self.write(self.built("other", 1_700_000_000, 0o077, turned=True))
        bytes_of = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (one, other)]
        self.assertEqual(bytes_of[0], bytes_of[1])
        self.assertEqual(len([name for name in bytes_of[0] if name.endswith(".zip")]), 9)
        again, told = self.write(one.parent)
        self.assertEqual(bytes_of[0], {path.name: path.read_bytes() for path in again.iterdir()}, "over one that is there")
        self.assertIn(COMMIT, told[-1])

    def test_what_is_in_it(self):
        _, folder = self.release()
        with zipfile.ZipFile(folder / "dispatch-arm64.zip") as archive:
            entry, = archive.infolist()
            self.assertEqual((entry.filename, entry.external_attr >> 16), ("bootstrap", 0o100755))
            self.assertEqual(archive.read(entry), b"dispatch for arm64")
        with zipfile.ZipFile(folder / "image.zip") as archive:
            modes = {it.filename: it.external_attr >> 16 & 0o777 for it in archive.infolist()}
        self.assertEqual((modes["pipeline"], modes["Dockerfile"]), (0o755, 0o644))
        self.assertEqual((folder / "runner-labels-x86_64").read_bytes(), b"runner-labels for x86_64")
        sums = (folder / "SHA256SUMS").read_text().splitlines()
        self.assertEqual({line.split("  ")[1] for line in sums}, {path.name for path in folder.iterdir()} - {"SHA256SUMS"})
        self.assertIn("### Added", (folder / "RELEASE_NOTES.md").read_text())

    def test_the_template_needs_no_build(self):
        _, folder = self.release()
        template = yaml.load((folder / "template.yaml").read_text(), TemplateLoader)
        self.assertEqual(set(template["Parameters"]) - set(deploying.defined()), {"CodeBucket", "CodePrefix"})
        places = {}
        for name, resource in template["Resources"].items():
            places |= {name: place for key, place in resource.get("Properties", {}).items() if key in ("CodeUri", "ContentUri")}
            self.assertNotIn("BuildMethod", resource.get("Metadata", {}))
        self.assertNotIn("CodeUri", template["Globals"]["Function"])
        self.assertEqual(len(places), 6)
        self.assertEqual(places["RedeliverFunction"], places["ReconcileFunction"])
        for place in places.values():
            key = place["Key"]["Fn::Sub"].replace("${CodePrefix}", "")
            for architecture in package.ARCHITECTURES:
                self.assertTrue((folder / key.replace("${Architecture}", architecture)).exists(), key)

    def test_the_bill_of_materials(self):
        _, folder = self.release()
        bom = json.loads((folder / "sbom.cdx.json").read_text())
        names = {it["name"] for it in bom["components"]}
        self.assertLessEqual({"aws-sdk-ecs", "ring", "lambda_runtime"}, names)
        self.assertFalse({"proptest", "axum", "saphyr"} & names, "what only tests and tools use")
        self.assertEqual([it["name"] for it in bom["components"] if not it.get("hashes") or not it.get("licenses")], [])
        refs = {it["bom-ref"] for it in bom["components"]} | {bom["metadata"]["component"]["bom-ref"]}
        self.assertEqual({it["ref"] for it in bom["dependencies"]}, refs)
        self.assertLessEqual({ref for it in bom["dependencies"] for ref in it["dependsOn"]}, refs)

    def test_release_notes(self):
        changelog = "# Changelog\n\n## [Unreleased]\n\n- new\n\n## [0.2.0] - 2026-01-02\n\n- two\n\n## [0.1.0] - 2026-01-01\n\n- one\n\n[0.1.0]: x\n"
        self.assertEqual(dist.release_notes(changelog, "0.2.0", True), "- two\n")
        self.assertEqual(dist.release_notes(changelog, "0.1.0", True), "- one\n")
        self.assertEqual(dist.release_notes(changelog, "0.3.0", False), "- new\n")
        with self.assertRaises(Failure):
            dist.release_notes(changelog, "0.3.0", True)

    def test_a_tag_is_the_version(self):
        root = self.built("here", 1_000_000_000)
        for tag, commit in (("v9.9.9", COMMIT), ("v0.1.0", f"{COMMIT}-dirty"), ("0.1.0", COMMIT)):
            with self.subTest(tag=tag, commit=commit), self.assertRaises(Failure):
                self.write(root, tag=tag, commit=commit)
        self.assertFalse((root / "dist").exists())

    def sent(self, root, architecture="x86_64"):
        commands = []
        with contextlib.redirect_stdout(io.StringIO()) as told:
            deploying.send("runners", {"Organization": "acme"}, architecture, {}, root, commands.append)
        return commands, told.getvalue(), yaml.load((root / ".aws-sam" / "packaged.yaml").read_text(), TemplateLoader)

    def test_a_release_is_deployed_and_nothing_is_built(self):
        root, folder = self.release()
        commands, told, template = self.sent(root, "arm64")
        self.assertEqual([command[:2] for command in commands], [["sam", "deploy"]])
        self.assertIn("release 0.1.0 of dist/", told)
        properties = template["Resources"]["DispatchFunction"]["Properties"]
        self.assertEqual(properties["CodeUri"], str(folder / "dispatch-arm64.zip"))
        self.assertEqual(template["Resources"]["ImageSource"]["Properties"]["ContentUri"], str(folder / "image.zip"))
        self.assertEqual(json.loads(template["Outputs"]["Release"]["Value"])["code"]["dispatch-arm64"], package.code_sha256(folder / "dispatch-arm64.zip"))
        self.assertEqual(set(template["Parameters"]), set(deploying.defined()))

    def test_without_a_release_it_is_built(self):
        root = self.built("here", 1_000_000_000)
        for name in package.FUNCTIONS:
            path = root / "target" / "lambda" / name / "bootstrap.zip"
            path.parent.mkdir(parents=True)
            path.write_bytes(name.encode())
        commands, _, template = self.sent(root, "arm64")
        self.assertEqual([command[:1] for command in commands], [["make"], ["sam"]])
        self.assertEqual(commands[0][-2:], ["build", "ARCHITECTURE=arm64"])
        path = Path(template["Resources"]["WebhookFunction"]["Properties"]["CodeUri"])
        self.assertEqual(path.read_bytes(), b"webhook")
        self.assertEqual(set(json.loads(template["Outputs"]["Release"]["Value"])["code"]), {f"{name}-arm64" for name in package.FUNCTIONS})

    def test_a_release_that_is_not_this_checkouts(self):
        def spoil(path, text):
            path.write_text(text)

        faults = {
            "changed": lambda root: spoil(root / "dist" / "webhook-arm64.zip", "x"),
            "missing": lambda root: (root / "dist" / "SHA256SUMS").unlink(),
            "half": lambda root: spoil(root / "dist" / "SHA256SUMS", ""),
            "another template": lambda root: spoil(root / "template.yaml", (root / "template.yaml").read_text() + "# more\n"),
        }
        for name, plant in faults.items():
            with self.subTest(fault=name):
                root = self.built(name, 1_000_000_000)
                self.write(root)
                self.sent(root)
                plant(root)
                with self.assertRaises(Failure) as refused:
                    self.sent(root)
                self.assertIn("delete ", str(refused.exception))
        root, folder = self.release()
        text = (root / "template.yaml").read_text()
        self.assertEqual(package.release(folder, text, COMMIT)["version"], "0.1.0")
        with self.assertRaises(Failure) as refused:
            package.release(folder, text, "f" * 40)
        self.assertIn("git checkout v0.1.0", str(refused.exception))


class Launched(unittest.TestCase):
    """The release's own template, out of a bucket, as the Launch Stack link gives it to CloudFormation."""

    def test_on_a_local_aws(self):
        begin()
        helper = Dist()
        with tempfile.TemporaryDirectory() as temporary, LocalAws() as aws:
            helper.folder = Path(temporary)
            root, folder = helper.release()
            s3, stacks = aws.client("s3"), aws.client("cloudformation")
            s3.create_bucket(Bucket="releases")
            for path in folder.iterdir():
                s3.put_object(Bucket="releases", Key=f"gha-fargate-runners/0.1.0/{path.name}", Body=path.read_bytes())
            template = yaml.load((folder / "template.yaml").read_text(), TemplateLoader)
            template["Resources"] = {name: it for name, it in template["Resources"].items() if not only_looks(it)}
            s3.put_object(Bucket="releases", Key="launch.json", Body=json.dumps(template))
            given = {"Organization": "acme", "CodeBucket": "releases", "Architecture": "arm64"}
            stacks.create_stack(StackName="launched", TemplateURL=f"{aws.endpoint}/releases/launch.json",
                                Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
                                Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"])

            def ended():
                found = stacks.describe_stacks(StackName="launched")["Stacks"][0]
                return None if found["StackStatus"].endswith("IN_PROGRESS") else found

            found = wait_until("launched", ended, 60)
            self.assertEqual(found["StackStatus"], "CREATE_COMPLETE", found.get("StackStatusReason"))
            function = aws.client("lambda").get_function_configuration(FunctionName=outputs(found)["WebhookFunctionName"])
            self.assertEqual(function["CodeSha256"], package.code_sha256(folder / "webhook-arm64.zip"))
            self.assertEqual(function["Architectures"], ["arm64"])


if __name__ == "__main__":
    unittest.main()

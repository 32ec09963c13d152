"""template.yaml with the place of the functions' code written into it, so that nothing is left to build; and what a
release says of itself.

Where code lies is written into the text, so that a template that was packaged reads like the one that it was made from.
"""

import base64
import hashlib
import json
import re
import subprocess
from pathlib import Path

from stack import Failure

ROOT = Path(__file__).resolve().parent.parent
FUNCTIONS = ("webhook", "dispatch", "reconcile", "author")
ARCHITECTURES = ("x86_64", "arm64")
CHECKSUMS = "SHA256SUMS"
# Of a release: a bucket in the stack's Region, into which somebody has put the folder.
PARAMETERS = """\

  # -- Where the functions' code lies --
  CodeBucket:
    Type: String
    Description: Bucket with this release's zip files, in the Region of the stack.
    AllowedPattern: '[a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9]'
    ConstraintDescription: The name of a bucket.
  CodePrefix:
    Type: String
    Default: gha-fargate-runners/{version}/
    Description: What the keys of the zip files begin with.
    AllowedPattern: '|\\S+/'
    ConstraintDescription: Nothing, or something that ends in a slash.
"""
FUNCTION = re.compile(r"    Metadata:\n      BuildMethod: rust-cargolambda\n      BuildProperties: { Binary: (\w+) }\n"
                      r"    Properties:\n")


def packaged(text, place, about, parameters=""):
    """The template with each function's code at `place(name)`, and the folder image/ at `place("image")`, as YAML;
    `about` becomes the stack's output Release."""
    # Two may have the same code.
    functions = set(FUNCTION.findall(text))
    text = FUNCTION.sub(lambda found: f"    Properties:\n      CodeUri: {place(found[1])}\n", text)
    text, image = re.subn(r"(?<=      ContentUri: )image(?=\n)", lambda _: place("image"), text)
    text, globally = re.subn(r"    CodeUri: \.\n", "", text)
    if (functions, image, globally) != (set(FUNCTIONS), 1, 1) or "rust-cargolambda" in text:
        raise Failure(f"template.yaml has functions of {sorted(functions)}, {image} layers and {globally} places of code")
    # JSON in JSON's quotes, which are YAML's too.
    told = json.dumps(json.dumps(about, sort_keys=True))
    output = f"  Release:\n    Description: What was deployed, and each function's CodeSha256.\n    Value: {told}\n"
    text = text.replace("\nOutputs:\n", f"\nOutputs:\n{output}", 1)
    return text.replace("\nRules:\n", f"{parameters}\nRules:\n", 1)


def of_release(text, about):
    """A release's template: its code is in a bucket, for either architecture."""
    def place(name):
        key = f"{name}.zip" if name == "image" else f"{name}-${{Architecture}}.zip"
        return f"{{ Bucket: !Ref CodeBucket, Key: !Sub '${{CodePrefix}}{key}' }}"

    return packaged(text, place, about, PARAMETERS.format(version=about["version"]))


def digest(path):
    return hashlib.sha256(path.read_bytes())


def code_sha256(path):
    """As Lambda tells it (`CodeSha256`)."""
    return base64.b64encode(digest(path).digest()).decode()


def commit(root=ROOT):
    """The checkout's commit, "-dirty" behind it where files differ from it; None without git."""
    try:
        told = subprocess.run(["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"], cwd=root,
                              capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return told.stdout.strip()


def release(folder, text, now):
    """What the release in this folder says of itself; None: there is none. It must be whole, and of this checkout: `text` is
    the checkout's template, `now` its commit, where that is known."""
    if not folder.is_dir():
        return None
    again = f"delete {folder}, and it is built here; or download the release anew"
    try:
        about = json.loads((folder / "release.json").read_text())
        sums = dict(reversed(line.split("  ", 1)) for line in (folder / CHECKSUMS).read_text().splitlines())
        wrong = [name for name, sum_ in sums.items() if digest(folder / name).hexdigest() != sum_]
        whole = {f"{name}-{it}.zip" for name in FUNCTIONS for it in ARCHITECTURES} | {"image.zip", "template.yaml"} <= sums.keys()
    except (OSError, ValueError) as error:
        raise Failure(f"{folder} is no whole release ({type(error).__name__}: {error}): {again}") from None
    if wrong or not whole:
        raise Failure(f"{folder} is no whole release ({', '.join(wrong) or 'files are missing'}): {again}")
    ours = of_release(text, about) == (folder / "template.yaml").read_text(encoding="utf-8")
    if not ours or now not in (None, about["commit"]):
        raise Failure(f"{folder} has release {about['version']} of commit {about['commit']}, and this checkout is at "
                      f"{now or 'another version'}: git checkout v{about['version']}; or {again}")
    return about

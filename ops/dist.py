"""One folder that is a release: what `make dist` runs once everything is built.

The same binaries and the same commit give the same bytes, wherever and whenever that is: files have no times and no owners
of their own, and stand in the order of their names.
"""

import argparse
import json
import re
import shutil
import sys
import tomllib
import zipfile
from pathlib import Path

import package
import sbom
from package import ARCHITECTURES, CHECKSUMS, FUNCTIONS, ROOT
from stack import Failure

# The oldest that a zip file can say.
LONG_AGO = (1980, 1, 1, 0, 0, 0)
TOOL = "runner-labels"


def write(folder, built, root=ROOT, tag=None, commit=None, metadata=None):
    """Yields what was written. `built/<architecture>/<name>/bootstrap` are the binaries."""
    manifest = tomllib.loads((root / "Cargo.toml").read_text(encoding="utf-8"))["package"]
    version, commit = manifest["version"], commit or package.commit(root) or "unknown"
    if tag and (tag != f"v{version}" or commit.endswith("-dirty")):
        raise Failure(f"the tag is {tag}, and Cargo.toml has version {version}, at commit {commit}")
    notes = release_notes((root / "CHANGELOG.md").read_text(encoding="utf-8"), version, bool(tag))
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    code = {}
    for architecture in ARCHITECTURES:
        for name in FUNCTIONS:
            path = folder / f"{name}-{architecture}.zip"
            write_zip(path, {"bootstrap": (built / architecture / name / "bootstrap", 0o755)})
            code[f"{name}-{architecture}"] = package.code_sha256(path)
        tool = built / architecture / TOOL / "bootstrap"
        if tool.exists():
            (folder / f"{TOOL}-{architecture}").write_bytes(tool.read_bytes())
    image = root / "image"
    write_zip(folder / "image.zip", {path.name: (path, 0o755 if path.read_bytes().startswith(b"#!") else 0o644)
                                     for path in image.iterdir() if path.is_file()})
    about = {"version": version, "commit": commit, "code": code}
    write_json(folder / "release.json", about)
    text = (root / "template.yaml").read_text(encoding="utf-8")
    (folder / "template.yaml").write_text(package.of_release(text, about), encoding="utf-8")
    (folder / "RELEASE_NOTES.md").write_text(notes, encoding="utf-8")
    write_json(folder / "sbom.cdx.json", sbom.of(metadata or sbom.metadata(root), (root / "Cargo.lock").read_text()))
    files = sorted(path for path in folder.iterdir())
    (folder / CHECKSUMS).write_text("".join(f"{package.digest(path).hexdigest()}  {path.name}\n" for path in files))
    yield from (f"{path.stat().st_size:>10,} {path.name}" for path in files)
    yield f"release {version}, commit {commit}: {folder}"


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, (source, mode) in sorted(files.items()):
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.create_system, entry.external_attr, entry.compress_type = 3, (0o100000 | mode) << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, source.read_bytes(), compresslevel=9)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def release_notes(changelog, version, tagged):
    """The version's section of CHANGELOG.md; before it is one, what is unreleased."""
    sections = dict(re.findall(r"^## \[([^\]]+)\][^\n]*\n(.*?)(?=^## |^\[[^\]]+\]: |\Z)", changelog, re.DOTALL | re.MULTILINE))
    found = sections.get(version) or (None if tagged else sections.get("Unreleased"))
    if not found or not found.strip():
        raise Failure(f"CHANGELOG.md says nothing about {version}")
    return found.strip() + "\n"


def main():
    parser = argparse.ArgumentParser(prog="make dist")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--built", type=Path, required=True, help="<architecture>/<name>/bootstrap")
    parser.add_argument("--tag", help="the version has to be this one, and CHANGELOG.md has to tell of it")
    options = parser.parse_args()
    try:
        for line in write(options.folder, options.built, tag=options.tag):
            print(line)
    except Failure as failure:
        sys.exit(f"dist: {failure}")


if __name__ == "__main__":
    main()

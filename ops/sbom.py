"""What the functions are made of, in CycloneDX 1.6: the crates that Cargo links into them on Linux."""

import json
import subprocess
import tomllib
import uuid

TARGETS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu")


def metadata(root):
    """Cargo's own account, without the features that only the tools beside the functions have."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--no-default-features"]
    for target in TARGETS:
        command += ["--filter-platform", target]
    return json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout)


def of(metadata_, lock):
    packages = {package["id"]: package for package in metadata_["packages"]}
    nodes = {node["id"]: node for node in metadata_["resolve"]["nodes"]}
    root = metadata_["resolve"]["root"]
    sums = {(it["name"], it["version"]): it.get("checksum") for it in tomllib.loads(lock)["package"]}
    linked, look_at = {}, [root]
    while look_at:
        id_ = look_at.pop()
        if id_ in linked:
            continue
        # Not what only builds or tests it.
        linked[id_] = sorted(it["pkg"] for it in nodes[id_]["deps"] if any(kind["kind"] is None for kind in it["dep_kinds"]))
        look_at += linked[id_]
    refs = {id_: f"pkg:cargo/{packages[id_]['name']}@{packages[id_]['version']}" for id_ in linked}
    components = [component(packages[id_], refs[id_], sums) for id_ in linked if id_ != root]
    bom = {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {"component": component(packages[root], refs[root], sums) | {"type": "application"}},
        "components": sorted(components, key=lambda it: it["bom-ref"]),
        "dependencies": sorted(({"ref": refs[id_], "dependsOn": sorted(refs[it] for it in needs)} for id_, needs in linked.items()),
                               key=lambda it: it["ref"]),
    }
    # The same for the same contents.
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bom, sort_keys=True))
    return bom | {"serialNumber": f"urn:uuid:{serial}"}


def component(package, ref, sums):
    found = {"type": "library", "bom-ref": ref, "name": package["name"], "version": package["version"], "purl": ref}
    if package.get("license"):
        # "/" is an "OR" of before SPDX expressions.
        found["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if sum_ := sums.get((package["name"], package["version"])):
        found["hashes"] = [{"alg": "SHA-256", "content": sum_}]
    return found

"""image/pipeline, with the real tools, against a real registry on this machine.

Stand-ins are GitHub's image (busybox, with an apt-get that installs commands which only answer) and awslabs' soci.
Needs root and what `apt-get install buildah skopeo docker-registry busybox-static` brings.
"""

import json
import os
import pathlib
import queue
import re
import shutil
import subprocess
import tempfile
import threading
import unittest
import urllib.request

HERE = pathlib.Path(__file__).parent
PIPELINE = HERE.parents[1] / "image" / "pipeline"
TOOLS = ["buildah", "skopeo", "docker-registry", "busybox"]
MISSING = [tool for tool in TOOLS if not shutil.which(tool)] + (["root"] if os.geteuid() else [])
if "busybox" not in MISSING and b"/ld-linux" in pathlib.Path(shutil.which("busybox")).read_bytes():
    MISSING.append("a static busybox")
INDEX, MANIFEST = "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"
# What the Dockerfile and the smoke run need besides the tools.
APPLETS = ["sh", "cp", "grep", "rm", "head", "id", "test", "mktemp", "cat"]
ANSWERING = ["sudo", "git", "curl", "jq"]


class Registry:
    """docker-registry, on a port of its own choosing."""

    def __init__(self, folder):
        config = folder / "registry.yml"
        config.write_text(json.dumps({
            "version": 0.1, "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}}, "http": {"addr": "127.0.0.1:0"}}))
        self.process = subprocess.Popen(["docker-registry", "serve", config], stderr=subprocess.PIPE, text=True)
        self.puts, address = [], queue.Queue()
        self.reader = threading.Thread(target=self._read, args=(address,))
        self.reader.start()
        self.address = address.get(timeout=60)

    def _read(self, address):
        for line in self.process.stderr:
            if found := re.search(r"listening on (127\.0\.0\.1:\d+)", line):
                address.put(found[1])
            said = json.loads(line) if line.startswith("{") else {}
            if said.get("http.request.method") == "PUT" and said.get("msg") == "response completed":
                self.puts.append(said["http.request.uri"])

    def get(self, path):
        request = urllib.request.Request(f"http://{self.address}/v2/{path}", headers={"Accept": f"{INDEX}, {MANIFEST}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer), answer.headers.get("Docker-Content-Digest")

    def tags(self, repository):
        """Tag -> digest of what it points at."""
        names = self.get(f"{repository}/tags/list")[0]["tags"]
        return {tag: self.get(f"{repository}/manifests/{tag}")[1] for tag in names}

    def close(self):
        """Ends it, so that its log is complete. Once is enough."""
        if self.process.stderr.closed:
            return
        self.process.terminate()
        self.process.wait(timeout=60)
        self.reader.join(timeout=60)
        self.process.stderr.close()


def rootfs(folder, broken):
    """GitHub's image, as far as the Dockerfile and the smoke run look at it."""
    for path in ("usr/bin", "usr/share", "etc", "tmp", "var/lib/apt", "home/runner/bin"):
        (folder / path).mkdir(parents=True)
    (folder / "bin").symlink_to("usr/bin")
    (folder / "tmp").chmod(0o1777)
    shutil.copy(shutil.which("busybox"), folder / "usr/bin/busybox")
    for applet in APPLETS:
        (folder / "usr/bin" / applet).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nrunner:x:1001:1001::/home/runner:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\nrunner:x:1001:\n")
    (folder / "etc/broken").write_text(f"{broken}\n")
    shutil.copy(HERE / "standin" / "apt-get", folder / "usr/bin/apt-get")
    shutil.copy(HERE / "standin" / "command", folder / "usr/share/command")
    for place in [f"usr/bin/{name}" for name in ANSWERING] + ["home/runner/bin/Runner.Listener", "home/runner/run.sh"]:
        shutil.copy(HERE / "standin" / "command", folder / place)


@unittest.skipIf(MISSING, f"NOT TRIED, image/pipeline: {', '.join(MISSING)} missing")
class Pipeline(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        self.registry = Registry(self.folder)
        self.addCleanup(self.registry.close)
        self.repository = f"{self.registry.address}/tools"
        # Nothing of this machine's own images, and plain HTTP to this registry alone.
        storage, registries = self.folder / "storage.conf", self.folder / ".config/containers/registries.conf"
        registries.parent.mkdir(parents=True)
        storage.write_text('[storage]\ndriver = "vfs"\n'
                           f'graphroot = "{self.folder}/storage"\nrunroot = "{self.folder}/run"\n')
        registries.write_text(f'[[registry]]\nlocation = "{self.registry.address}"\ninsecure = true\n')
        self.environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(storage), "BUILDAH_ISOLATION": "chroot",
                            "HOME": str(self.folder), "TMPDIR": str(self.folder),
                            "PATH": f"{HERE / 'standin'}:{os.environ['PATH']}"}

    def run_tool(self, *command, **environment):
        return subprocess.run(command, env={**self.environment, **environment}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)

    def push_base(self, name, broken=""):
        root = self.folder / name
        rootfs(root, broken)
        (self.folder / f"{name}.Dockerfile").write_text("FROM scratch\nCOPY . /\nUSER runner\nWORKDIR /home/runner\n")
        base = f"{self.registry.address}/{name}"
        for command in (["bud", "-f", str(self.folder / f"{name}.Dockerfile"), "-t", f"{base}:latest", str(root)],
                        ["push", f"{base}:latest"]):
            done = self.run_tool("buildah", *command)
            self.assertEqual(done.returncode, 0, done.stdout)
        return base

    def pipeline(self, base, **environment):
        return self.run_tool(str(PIPELINE), self.repository, RUNNER_IMAGE=base, **environment)

    def test_the_date_is_published_and_current_is_moved_last(self):
        done = self.pipeline(self.push_base("base"))
        self.assertEqual(done.returncode, 0, done.stdout)
        tags = self.registry.tags("tools")
        date, = tags.keys() - {"current"}
        self.assertRegex(date, r"^20\d{6}-\d{6}$")
        self.assertEqual(tags["current"], tags[date])
        index, _ = self.registry.get("tools/manifests/current")
        self.assertEqual(index["mediaType"], INDEX)
        image, soci = (self.registry.get(f"tools/manifests/{part['digest']}")[0] for part in index["manifests"])
        # The artifact speaks of the layers that the repository has, and arrived as it was made.
        self.assertEqual([layer["annotations"]["com.amazon.soci.image-layer-digest"] for layer in soci["layers"]],
                         [layer["digest"] for layer in image["layers"]])
        self.assertEqual({layer["mediaType"] for layer in soci["layers"]}, {"application/octet-stream"})
        self.registry.close()
        manifests = [uri for uri in self.registry.puts if uri.startswith("/v2/tools/manifests/")]
        self.assertEqual(self.registry.puts[-1], "/v2/tools/manifests/current")
        self.assertEqual(manifests.count("/v2/tools/manifests/current"), 1)
        self.assertLess(manifests.index(f"/v2/tools/manifests/{date}"), len(manifests) - 1)

    def test_what_fails_before_leaves_the_repository_as_it_was(self):
        good = self.push_base("base")
        self.assertEqual(self.pipeline(good).returncode, 0)
        before, puts = self.registry.tags("tools"), len(self.registry.puts)
        cases = [("gh", "'gh --version' failed", self.push_base("without-gh", "gh"), {}),
                 ("gcc", "'gcc --version' failed", self.push_base("without-gcc", "gcc"), {}),
                 ("soci", "no layer is large enough", good, {"SOCI_FAILS": "1"}),
                 ("base", "no-such-base", f"{self.registry.address}/no-such-base", {})]
        for name, says, base, environment in cases:
            with self.subTest(broken=name):
                done = self.pipeline(base, **environment)
                self.assertNotEqual(done.returncode, 0, done.stdout)
                self.assertIn(says, done.stdout)
                self.assertEqual(self.registry.tags("tools"), before)
        self.registry.close()
        self.assertEqual([uri for uri in self.registry.puts[puts:] if uri.startswith("/v2/tools/")], [])

    def test_current_follows_what_was_built_later(self):
        self.assertEqual(self.pipeline(self.push_base("base")).returncode, 0)
        before = self.registry.tags("tools")
        done = self.pipeline(self.push_base("newer", "nothing"))
        self.assertEqual(done.returncode, 0, done.stdout)
        after = self.registry.tags("tools")
        self.assertEqual(len(after), 3)
        self.assertNotEqual(after["current"], before["current"])
        date, = before.keys() - {"current"}
        self.assertEqual(after[date], before[date])


if __name__ == "__main__":
    unittest.main()

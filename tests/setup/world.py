"""What the stories of setup happen in: a local AWS, the GitHub stand-in, setup's own process, and a search for secrets."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "demo"), str(ROOT / "setup"), str(ROOT / "ops")]

import local_aws  # noqa: E402
from local_aws import BINARIES, CREDENTIALS, LocalAws, free_port, request  # noqa: E402

HERE = pathlib.Path(__file__).parent
ORGANIZATION, STACK = "acme", "gha-fargate-runners"
local_aws.STACK = STACK
KEY = ROOT / "tests" / "fixtures" / "app-key.pem"
# As slow as a machine may be; nothing is waited for that is there.
SECONDS = 240


class GitHub:
    """The project's GitHub stand-in, on a port that stays the same, so that a stack can be told of it."""

    def __init__(self, endpoint, port, *arguments):
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [BINARIES / "examples" / "github", "--port", str(port), "--deliver-through", endpoint, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), self.process.stderr.read()

    def end(self):
        """It checks every request, and says at its end whether one was wrong."""
        self.process.terminate()
        _, errors = self.process.communicate(timeout=20)
        assert self.process.returncode == 0, errors

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def tell(self, path, body):
        status, answer = request("POST", f"{self.url}/_world/{path}", json.dumps(body).encode())
        assert status == 200, answer
        return json.loads(answer)

    def calls(self):
        return [call["operation"] for call in json.loads(request("GET", f"{self.url}/_world/calls")[1])]

    def job(self, id_):
        """A job is queued, and GitHub sends the event: the webhook's answer."""
        payload = json.loads((ROOT / "events" / "queued.json").read_text())
        payload["workflow_job"] |= {"id": id_, "labels": ["self-hosted", "fargate"]}
        payload["repository"]["full_name"] = f"{ORGANIZATION}/{payload['repository']['name']}"
        payload["repository"]["owner"]["login"] = payload["organization"]["login"] = ORGANIZATION
        payload.pop("installation", None)
        self.tell("jobs", payload)
        return self.tell("events", payload)["status"]


class Run:
    """`make setup` as a process of its own."""

    def __init__(self, endpoint, github, *arguments, org=ORGANIZATION, program="local_setup.py"):
        environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **CREDENTIALS,
                       "AWS_ENDPOINT_URL": endpoint, "AWS_CONFIG_FILE": os.devnull,
                       "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}
        command = [sys.executable, str(HERE / program), "--org", org, "--github", github, "--yes", "--no-browser", *arguments]
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)
        self.output, self._changed = "", threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self.output += line
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def says(self, text):
        """Waits until it says so."""
        with self._changed:
            said = self._changed.wait_for(lambda: text in self.output or self.process.poll() is not None, SECONDS)
            if not said or text not in self.output:
                self._changed.wait(1)
            assert text in self.output, f"it does not say {text!r}:\n{self.output}"

    def page(self):
        self.says("Open http://127.0.0.1:")
        return re.search(r"Open (http://127\.0\.0\.1:\d+/\S+)", self.output)[1]

    def type(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ends(self, code=0):
        self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        assert self.process.returncode == code, f"exit code {self.process.returncode}:\n{self.output}"
        return self.output

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self):
        self.kill()
        self._reader.join(SECONDS)
        self.process.stdin.close()
        self.process.stdout.close()


class ProcessList:
    """Every command line of the machine, looked at again and again: what a neighbour could see."""

    def __enter__(self):
        self.seen, self._ended = set(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _look(self):
        while not self._ended.wait(0.05):
            for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes().decode(errors="replace"))
                except OSError:
                    continue

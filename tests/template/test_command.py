"""What a dispatcher-minted container runs: GitHub's run.sh, and an end for a runner that is left alone."""

import itertools
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import unittest

from policies import Stack
from test_policies import MODES, TEMPLATE

# What GitHub's run.sh makes of signals: the runner has a process group of its own and gets SIGINT for the first one.
RUN_SH = r"""#!/bin/bash
set -m
forward() { kill -INT -- "-$listener"; trap - INT TERM; }
trap forward INT TERM
"$(dirname "$0")/listener" & listener=$!
wait "$listener"; code=$?
wait "$listener" || code=$?
echo "the script ends"
exit "$code"
"""
NUMBER = itertools.count()
HEAD = """#!/bin/bash
wait_for() { read -r _ < "$(dirname "$0")/$1"; }
cd "$(dirname "$0")"
"""


def command(**parameters):
    stack = Stack(TEMPLATE, **MODES["dispatcher-minted"], **parameters)
    container, = stack.resolve(stack.template["Resources"]["TaskDefinition"]["Properties"]["ContainerDefinitions"])
    return container["Command"]


def as_in_a_container():
    """Whoever starts the tests in the background has SIGINT ignored, for all that they start, and bash traps no such signal."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


class Container:
    """The command with a runner of the test's own. The worker's name is one that nothing else on this machine has, nor had: what
    has ended may lie about as a zombie."""

    def __init__(self, test, listener, limit, grace=600, run_sh=RUN_SH):
        self.folder = pathlib.Path(test.enterContext(tempfile.TemporaryDirectory()))
        self.worker = f"w{os.getpid()}-{next(NUMBER)}"
        for name, text in (("run.sh", run_sh), ("listener", HEAD + listener), (self.worker, HEAD + "wait_for over")):
            (self.folder / name).write_text(text.replace("WORKER", self.worker))
            (self.folder / name).chmod(0o755)
        for name in ("gate", "over"):
            os.mkfifo(self.folder / name)
        shell, flag, script, *_ = command()
        self.process = subprocess.Popen(
            [shell, flag, script.replace("Runner.Worker", self.worker), "runner", str(limit), str(grace), self.folder / "run.sh"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0, start_new_session=True, preexec_fn=as_in_a_container)
        test.addCleanup(self.end)

    def line(self):
        return self.process.stdout.readline().decode().rstrip("\n")

    def open(self, name):
        """Lets whoever waits for it go on."""
        (self.folder / name).write_text("\n")

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def rest(self):
        """What else it said, and its exit code. In a container whatever is left ends with it; here it may hold the pipe."""
        code = self.process.wait(timeout=60)
        os.set_blocking(self.process.stdout.fileno(), False)
        return (self.process.stdout.read() or b"").decode().splitlines(), code

    def end(self):
        subprocess.run(["pkill", "-KILL", "-f", str(self.folder)], check=False)
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


STOPS = 'trap \'echo "winding up"; exit 130\' INT\necho ready\nwait_for gate & wait\n'
WORKS = 'trap \'echo "winding up"; wait_for gate; kill "$worker" 2> /dev/null; exit 5\' INT\n"$PWD/WORKER" & worker=$!\necho ready\nwait "$worker"\nexit 7\n'


class Command(unittest.TestCase):
    def test_where_no_job_comes_it_stops(self):
        container = Container(self, STOPS, limit=5)
        said, code = container.rest()
        self.assertEqual(sorted(said), ["no job has come for 5 seconds: the runner stops", "ready", "the script ends", "winding up"])
        self.assertEqual(code, 130)

    def test_at_work_it_goes_on(self):
        container = Container(self, WORKS, limit=60)
        self.assertEqual(container.line(), "ready")
        # Until nobody looks any more: the worker was seen, and nothing is left that would stop it.
        watches = ["pgrep", "-P", str(container.process.pid), "-f", f"runner 60 600 {container.folder}/run.sh"]
        while subprocess.run(watches, capture_output=True).returncode == 0:
            pass
        container.open("over")
        self.assertEqual(container.rest(), (["the script ends"], 7))

    def test_only_the_first_signal_is_passed_on(self):
        container = Container(self, WORKS, limit=600)
        self.assertEqual(container.line(), "ready")
        container.signal()
        self.assertEqual(container.line(), "winding up")
        container.signal()
        container.signal(signal.SIGINT)
        container.open("gate")
        self.assertEqual(container.rest(), (["the script ends"], 5))

    def test_the_exit_code_is_the_scripts(self):
        for code in (0, 1, 7):
            with self.subTest(code=code):
                container = Container(self, "", limit=600, run_sh=f"#!/bin/bash\nexit {code}\n")
                self.assertEqual(container.rest(), ([], code))

    def test_one_that_does_not_stop_is_killed(self):
        deaf = "#!/bin/bash\ntrap '' TERM INT\ncd \"$(dirname \"$0\")\"\nread -r _ < gate\n"
        container = Container(self, "", limit=5, grace=0, run_sh=deaf)
        self.assertEqual(container.process.wait(timeout=60), -signal.SIGKILL)

    def test_how_long_it_may_be_left_alone(self):
        self.assertEqual(command()[4:-1], ["86400", "120", "/home/runner/run.sh"])
        alone = command(EnableReconcile="false", IdleTimeoutSeconds="900")
        self.assertEqual(alone[4], "900", "nobody retires it then")


HOOK = TEMPLATE.parent / "image" / "job-started.sh"
TASK = {
    "TaskARN": "arn:aws:ecs:eu-west-1:111122223333:task/runners/0123", "Limits": {"CPU": 2, "Memory": 8192},
    "Containers": [{"Name": "aws-fargate-pause", "Image": "pause"}, {
        "Name": "runner", "Image": "ghcr.io/actions/actions-runner:latest",
        "LogOptions": {"awslogs-group": "/ecs/runners", "awslogs-region": "eu-west-1", "awslogs-stream": "ecs/runner/0123"}}],
}


class Hook(unittest.TestCase):
    """What a job's log says of its runner. A hook that ends otherwise than well fails the job."""

    def hook(self, answer=None, **environment):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        if answer is not None:
            (folder / "task").write_text(answer)
        (folder / "bin").mkdir()
        (folder / "bin" / "Runner.Listener").write_text("#!/bin/sh\necho 2.337.0\n")
        (folder / "bin" / "Runner.Listener").chmod(0o755)
        given = {"PATH": os.environ["PATH"], "HOME": str(folder), "ECS_CONTAINER_METADATA_URI_V4": f"file://{folder}"} | environment
        # As the runner runs it.
        ran = subprocess.run(["/bin/bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(HOOK)], env=given, text=True,
                             capture_output=True, timeout=60, check=True)
        self.assertEqual(ran.stderr, "")
        return ran.stdout.splitlines()

    def test_it_says_what_the_runner_is(self):
        said = self.hook(json.dumps(TASK))
        self.assertEqual(said[1:-1], [
            "Image: ghcr.io/actions/actions-runner:latest, runner 2.337.0", "Task: arn:aws:ecs:eu-west-1:111122223333:task/runners/0123",
            "Log: https://eu-west-1.console.aws.amazon.com/cloudwatch/home#logsV2:log-groups/log-group/$252Fecs$252Frunners"
            "/log-events/ecs$252Frunner$252F0123"])
        self.assertIn("2 vCPU, 8 GiB", said[0])
        self.assertRegex(said[-1], r"^Cost: about 0\.00\d+ USD a minute")

    def test_it_names_the_capacity_and_no_price_that_is_another_s(self):
        cost = r"Cost: about 0\.00\d+ USD a minute on demand"
        for capacity, told in (("FARGATE", cost), ("FARGATE_SPOT", "Cost: that of Spot"), ("machines", "Log: ")):
            with self.subTest(capacity=capacity):
                said = self.hook(json.dumps(TASK), RUNNER_CAPACITY=capacity)
                self.assertEqual(said[1], f"Capacity: {capacity}")
                self.assertRegex(said[-1], f"^{told}")

    def test_it_fails_no_job(self):
        for answer in (None, "", "{}", "[]", "null", "not JSON", json.dumps(TASK | {"Containers": []})):
            with self.subTest(answer=answer):
                self.hook(answer)
        self.assertEqual(self.hook(json.dumps(TASK), PATH="/nowhere"), [], "neither curl nor jq")
        self.hook(ECS_CONTAINER_METADATA_URI_V4="")

    def hook_of(self, **environment):
        """What the runner of the command gets for a hook: its text, or its name."""
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        show = '#!/bin/bash\ncat "$ACTIONS_RUNNER_HOOK_JOB_STARTED" || echo "none: $ACTIONS_RUNNER_HOOK_JOB_STARTED"\n'
        (folder / "run.sh").write_text(show)
        (folder / "run.sh").chmod(0o755)
        *shell, _, _, _, hook = command()
        given = {"PATH": os.environ["PATH"], "TMPDIR": str(folder)} | environment
        ran = subprocess.run([*shell, "600", "1", str(folder / "run.sh"), hook], env=given, text=True, capture_output=True, timeout=60)
        self.assertEqual(ran.returncode, 0)
        return ran.stdout

    def test_the_command_writes_it_down(self):
        self.assertEqual(self.hook_of(), HOOK.read_text())

    def test_the_runner_starts_without_it(self):
        self.assertEqual(self.hook_of(TMPDIR="/nowhere"), "none: \n", "where it cannot be written")
        self.assertEqual(self.hook_of(ACTIONS_RUNNER_HOOK_JOB_STARTED="/an/image/s.own"), "none: /an/image/s.own\n")


if __name__ == "__main__":
    unittest.main()

"""What a dispatcher-minted container runs: GitHub's run.sh, and an end for a runner that is left alone."""

import itertools
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
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0, start_new_session=True)
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
        self.assertEqual(command()[4:], ["86400", "120", "/home/runner/run.sh"])
        alone = command(EnableReconcile="false", IdleTimeoutSeconds="900")
        self.assertEqual(alone[4], "900", "nobody retires it then")


if __name__ == "__main__":
    unittest.main()

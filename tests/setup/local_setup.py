"""`make setup` on a local AWS: the program itself, with the two things replaced that cannot be had here. The release build
is the debug build, deployed as `make demo` does; and function URLs, which are hosts of Amazon's, are the local AWS's."""

import os
import pathlib
import sys
from urllib.parse import urlsplit

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "setup"), str(ROOT / "ops")]

import left_out  # noqa: E402
import setup  # noqa: E402
import stack  # noqa: E402
import web  # noqa: E402

ENDPOINT = os.environ["AWS_ENDPOINT_URL"]


def deploy_command(name, parameters):
    return [sys.executable, str(pathlib.Path(__file__).with_name("local_deploy.py")), name,
            *(f"{key}={value}" for key, value in parameters.items())]


def send(method, url, headers, body=None, timeout=30, real=web.send):
    host = urlsplit(url).netloc
    if host.endswith(".on.aws"):
        return real(method, ENDPOINT, {**headers, "Host": host}, body, timeout)
    return real(method, url, headers, body, timeout)


stack.deploy_command, web.send, stack.PAUSE = deploy_command, send, 0.5
left_out.install()
setup.POLL_SECONDS, setup.DELIVERY_SECONDS = 0.3, 20

if __name__ == "__main__":
    setup.main()

"""`make setup` on a local AWS, with a GitHub Enterprise Server: the stand-in has its API below /api/v3 too."""

import local_setup
from github import GitHub


def begin(github, host, real=GitHub.__init__):
    real(github, host)
    github.api = f"{host.rstrip('/')}/api/v3"


GitHub.__init__ = begin

if __name__ == "__main__":
    local_setup.setup.main()

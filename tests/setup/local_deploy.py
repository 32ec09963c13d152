"""Deploys template.yaml to the local AWS at AWS_ENDPOINT_URL, in place of `make deploy`."""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "demo")]

import local_aws  # noqa: E402

if __name__ == "__main__":
    local_aws.STACK = sys.argv[1]
    aws = local_aws.LocalAws()
    aws.endpoint = os.environ["AWS_ENDPOINT_URL"]
    try:
        aws.deploy(dict(parameter.split("=", 1) for parameter in sys.argv[2:]))
    except local_aws.Failure as failure:
        sys.exit(str(failure))

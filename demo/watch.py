"""The functions on a local AWS, rebuilt at every change: what `make watch` runs.

`cargo lambda watch` runs dispatch, webhook and reconcile as they are in the source, with the settings that
the deployed stack gives its functions. `make invoke EVENT=queued` in a second terminal sends them one of
events/. Containers mint their own configuration here, so that no GitHub is needed.
"""

import os
import subprocess
import sys

from local_aws import CREDENTIALS, ROOT, Failure, LocalAws, begin

FUNCTIONS = ("WebhookFunctionName", "DispatchFunctionName", "ReconcileFunctionName")
# What the webhook requests in events/ are signed with.
WEBHOOK_SECRET = "It's a Secret to Everybody"


def main(address):
    begin()
    try:
        with LocalAws() as aws:
            # Two capacities: see demo.py on client tokens.
            stack = aws.deploy({"Organization": "octo-org", "Capacity": "FARGATE,FARGATE_SPOT"})
            aws.client("secretsmanager").put_secret_value(
                SecretId=stack["WebhookSecretName"], SecretString=WEBHOOK_SECRET)
            print(f"local AWS at {aws.endpoint}, cluster {stack['ClusterName']}\n"
                  "in a second terminal: make invoke EVENT=queued; Ctrl-C ends everything\n", flush=True)
            watch(address, settings(aws, stack) | CREDENTIALS | {"AWS_ENDPOINT_URL": aws.endpoint})
    except Failure as failure:
        sys.exit(f"watch FAILED: {failure}")
    except KeyboardInterrupt:
        print("\nnothing is left running")


def settings(aws, stack):
    """The variables of all three functions. They share names only where they share values."""
    functions = aws.client("lambda")
    found = {}
    for name in FUNCTIONS:
        found |= functions.get_function_configuration(FunctionName=stack[name])["Environment"]["Variables"]
    return found


def watch(address, variables):
    command = ["cargo", "lambda", "watch", "--invoke-address", address]
    watcher = subprocess.Popen(command, cwd=ROOT, env=os.environ | variables)
    try:
        if status := watcher.wait():
            raise Failure(f"cargo lambda watch ended with status {status}; is port 9000 in use?")
    finally:
        # Ctrl-C reaches the whole foreground group; SIGTERM only this program.
        watcher.terminate()
        watcher.wait()


if __name__ == "__main__":
    main(sys.argv[1])

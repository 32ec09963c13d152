"""Sends a signed ping to the webhook of a deployed stack: what `make webhook-test` runs.

It uses your AWS credentials, as the AWS CLI would, to read the stack's outputs and the webhook secret.
"""

import hashlib
import hmac
import json
import os
import sys
import urllib.request
import uuid

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from local_aws import request


def main(stack):
    aws = boto3.Session(region_name=os.environ.get("AWS_REGION"))
    outputs = aws.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in outputs}
    secret = aws.client("secretsmanager").get_secret_value(SecretId=outputs["WebhookSecretName"])["SecretString"]
    body = json.dumps({"zen": "Keep it logically awesome.", "hook_id": 1}).encode()
    status, answer = request("POST", outputs["WebhookUrl"], body, {
        "Content-Type": "application/json",
        "X-GitHub-Event": "ping",
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-Hub-Signature-256": "sha256=" + hmac.new(current(secret).encode(), body, hashlib.sha256).hexdigest(),
    }, proxies=urllib.request.getproxies())
    print(f"{outputs['WebhookUrl']} -> {status} {answer.decode(errors='replace')}")
    return status == 200


def current(secret):
    """The secret to sign with: while it is rotated, it is JSON with the current one in it."""
    try:
        return json.loads(secret)["current"]
    except (ValueError, TypeError, KeyError):
        return secret


if __name__ == "__main__":
    try:
        sys.exit(0 if main(sys.argv[1]) else 1)
    except (BotoCoreError, ClientError, OSError, KeyError) as error:
        sys.exit(f"webhook-test FAILED: {error}")

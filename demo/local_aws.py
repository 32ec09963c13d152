"""A local AWS with this project deployed in it.

The AWS is ministack, listening on 127.0.0.1 only, with dummy credentials and an environment of its own:
nothing here can reach an account, whatever the caller's environment says. `template.yaml` is deployed as it
is, but for what people look at (`only_looks`), and for the one thing that `aws cloudformation package` changes
too: where each function's code lies.
The functions are the binaries of `cargo build`, run natively.
"""

import base64
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import boto3
import yaml
from botocore.config import Config

ROOT = Path(__file__).resolve().parent.parent
BINARIES = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
REGION = "us-east-1"
STACK = "demo"
CODE_BUCKET = "code"
START_SECONDS = 30
DEPLOY_SECONDS = 60
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
}


class Failure(Exception):
    """The demo cannot go on, or did not end as it should; the message is for the user."""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(what, ready, seconds, pause=0.1):
    """The first true answer of `ready`; a Failure naming `what` if there is none within `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := ready()):
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {seconds} seconds")
        time.sleep(pause)
    return answer


def begin():
    """To be called first: forgets every AWS setting of the caller, and lets SIGTERM end things as Ctrl-C does."""
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[variable]
    os.environ |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


class Child:
    """A process that ends with the demo, together with the processes that it starts itself."""

    def __init__(self, command, env, log, stdout=None):
        self.log = log
        # A session of its own makes it a process group that can be ended as a whole.
        self.process = subprocess.Popen(command, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stdout or log,
                                        stderr=log, start_new_session=True, text=True)

    def alive(self):
        return self.process.poll() is None

    def end(self):
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, how)
            except ProcessLookupError:
                return
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                continue


class LocalAws:
    """ministack on a free port; a context manager that leaves nothing running and no file behind."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="gha-fargate-runners-")
        self.log = open(Path(self.folder.name) / "aws.log", "w+")
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        environment = CREDENTIALS | {
            "PATH": os.environ["PATH"],
            "HOME": self.folder.name,
            "TMPDIR": self.folder.name,
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            # Its functions inherit this one, and so call back here.
            "AWS_ENDPOINT_URL": self.endpoint,
        }
        self.child = Child([sys.executable, "-m", "ministack"], environment, self.log)
        try:
            wait_until("start of the local AWS", self._healthy, START_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.child.end()
        self.log.close()
        self.folder.cleanup()

    def _healthy(self):
        if not self.child.alive():
            raise Failure(f"the local AWS ended at once:\n{self.log_tail()}")
        try:
            return request("GET", f"{self.endpoint}/_ministack/health")[0] == 200
        except OSError:
            return False

    def log_tail(self, lines=40):
        self.log.flush()
        return "\n".join(Path(self.log.name).read_text(errors="replace").splitlines()[-lines:])

    def client(self, service):
        """A client that knows this endpoint only, with credentials that are good nowhere else."""
        return boto3.client(service, endpoint_url=self.endpoint, region_name=REGION, aws_access_key_id="test",
                            aws_secret_access_key="test", config=Config(retries={"max_attempts": 2}, proxies={}))

    def deploy(self, parameters):
        """Deploys the template and returns the stack's outputs."""
        s3, stacks = self.client("s3"), self.client("cloudformation")
        s3.create_bucket(Bucket=CODE_BUCKET)
        template = packaged_template(lambda name, zipped: self._upload(s3, name, zipped))
        s3.put_object(Bucket=CODE_BUCKET, Key="template.json", Body=json.dumps(template))
        stacks.create_stack(
            StackName=STACK,
            TemplateURL=f"{self.endpoint}/{CODE_BUCKET}/template.json",
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=CAPABILITIES)
        stack = self._deployed("CREATE_COMPLETE")
        self.repair_mappings()
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def redeploy(self, parameters):
        """The same stack with these parameters."""
        self.client("cloudformation").update_stack(
            StackName=STACK,
            UsePreviousTemplate=True,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=CAPABILITIES)
        self._deployed("UPDATE_COMPLETE")

    def _deployed(self, expected):
        """The stack, once CloudFormation is at rest."""
        stacks = self.client("cloudformation")

        def finished():
            stack = stacks.describe_stacks(StackName=STACK)["Stacks"][0]
            return None if stack["StackStatus"].endswith("IN_PROGRESS") else stack

        stack = wait_until("deployment of template.yaml", finished, DEPLOY_SECONDS)
        if stack["StackStatus"] != expected:
            raise Failure(f"template.yaml: {stack['StackStatus']}: {stack.get('StackStatusReason', 'no reason given')}")
        return stack

    def repair_mappings(self):
        """CloudFormation turns a parameter of type Number into one where a number is due; ministack leaves text."""
        functions = self.client("lambda")
        for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
            limit = int(mapping["ScalingConfig"]["MaximumConcurrency"])
            functions.update_event_source_mapping(UUID=mapping["UUID"], ScalingConfig={"MaximumConcurrency": limit})

    @staticmethod
    def _upload(s3, name, zipped):
        s3.put_object(Bucket=CODE_BUCKET, Key=f"{name}.zip", Body=zipped)
        return f"s3://{CODE_BUCKET}/{name}.zip"


def zipped_bootstrap(binary):
    """The binary as Lambda expects it: an executable named `bootstrap` in a zip file."""
    entry = zipfile.ZipInfo("bootstrap")
    entry.external_attr = 0o100755 << 16
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:  # stored: it goes no further than this machine
        file.writestr(entry, binary.read_bytes())
    return archive.getvalue()


def zipped_folder(folder):
    """A folder's files, as `aws cloudformation package` zips them."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.iterdir()):
            file.write(path, path.name)
    return archive.getvalue()


class TemplateLoader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms, which it turns into the long ones that JSON can say."""

    def intrinsic(self, name, node):
        key = name if name in ("Ref", "Condition") else f"Fn::{name}"
        if isinstance(node, yaml.SequenceNode):
            return {key: self.construct_sequence(node, deep=True)}
        if isinstance(node, yaml.MappingNode):
            return {key: self.construct_mapping(node, deep=True)}
        value = self.construct_scalar(node)
        return {key: value.split(".", 1) if name == "GetAtt" else value}


TemplateLoader.add_multi_constructor("!", TemplateLoader.intrinsic)


def only_looks(resource):
    """Saved queries, alarms on several metrics, and the dashboard that shows those: ministack has none of them."""
    kind = resource["Type"]
    return kind in ("AWS::Logs::QueryDefinition", "AWS::CloudWatch::Dashboard") or (
        kind == "AWS::CloudWatch::Alarm" and "Metrics" in resource["Properties"])


def packaged_template(upload):
    """template.yaml with each function's code and each layer's folder where `upload(name, zipped)` has put it."""
    template, code = yaml.load((ROOT / "template.yaml").read_text(), TemplateLoader), {}
    template["Resources"] = {name: it for name, it in template["Resources"].items() if not only_looks(it)}
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::Serverless::Function":
            binary = resource["Metadata"]["BuildProperties"]["Binary"]
            zipped = zipped_bootstrap(BINARIES / binary)
            properties["CodeUri"] = upload(binary, zipped)
            code[f"{binary}-x86_64"] = base64.b64encode(hashlib.sha256(zipped).digest()).decode()
        elif resource["Type"] == "AWS::Serverless::LayerVersion":
            folder = properties["ContentUri"]
            properties["ContentUri"] = upload(folder, zipped_folder(ROOT / folder))
    template["Outputs"]["Release"] = {"Value": json.dumps({"version": "built here", "code": code})}
    return template


def request(method, url, body=None, headers=None, proxies=None):
    """One HTTP request; returns status and body, whatever the status is. No proxy, unless `proxies` names some."""
    message = urllib.request.Request(url, method=method, data=body, headers=headers or {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies or {}))
    try:
        with opener.open(message, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()

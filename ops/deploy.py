"""Builds and deploys template.yaml: what `make deploy` runs. Where there is a release in dist/, that is deployed, and nothing
is built.

It looks before it builds, and asks what only you know; any other parameter is given as PARAMETERS="Name=value ...". A stack
that exists keeps the values that it has, so that an upgrade asks nothing. What they are is kept in .deploy/<stack>.json, which
git ignores: a stack of that name that is made anew begins with them.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time

from botocore.exceptions import ClientError

import names
import package
import stack as stacks
import stop
from stack import ROOT, Failure

ASKED = ["Organization", "GitHubSecretArn", "MaxRunners", "AlarmTopicArn"]
# What tasks run in, jobs wait on, or runners are known by: changed, what is in the old one is nobody's.
STRANDS = ["ClusterName", "JobQueueName", "VpcId", "CreateCluster", "CreateJobQueue", "EnableReconcile", "RunnerNamePrefix"]
# Those that jobs wait on. Runners need no queue: what is told of them on the old one, the next sweep finds.
QUEUE = ["JobQueueName", "CreateJobQueue"]
STRANDS_WHERE_NONE_WAS = ["SubnetIds", "SecurityGroupIds"]
# What tells one stack's runners from another's.
FLEET = ["RunnerNamePrefix", "Organization", "GitHubApiUrl"]
ECS_ROLE = "/aws-service-role/ecs.amazonaws.com/"
LOOKS = 30
# For the one function that anybody can call: thousands of deliveries a second.
RESERVED = 20
# "You can reserve up to the Unreserved account concurrency value minus 100" (Lambda, "Configuring reserved concurrency").
UNRESERVED = 100
KINDS = {"AWS::SQS::Queue": "queue", "AWS::Logs::LogGroup": "log group", "AWS::SecretsManager::Secret": "secret",
         "AWS::ECR::Repository": "repository"}
LOOKS_FOR = {
    "AWS::SQS::Queue": lambda client, name: client("sqs").get_queue_url(QueueName=name),
    "AWS::Logs::LogGroup": lambda client, name: name in [
        it["logGroupName"] for it in client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]],
    "AWS::SecretsManager::Secret": lambda client, name: client("secretsmanager").describe_secret(SecretId=name),
    "AWS::ECR::Repository": lambda client, name: client("ecr").describe_repositories(repositoryNames=[name]),
}
DELETES = {
    "AWS::SQS::Queue": "aws sqs delete-queue --queue-url $(aws sqs get-queue-url --queue-name {} --output text)",
    "AWS::Logs::LogGroup": "aws logs delete-log-group --log-group-name {}",
    "AWS::SecretsManager::Secret": "aws secretsmanager delete-secret --force-delete-without-recovery --secret-id {}",
    "AWS::ECR::Repository": "aws ecr delete-repository --force --repository-name {}",
}
# A task has its task definition's tags, which are the stack's, and eighteen of its own (src/fargate/tags.rs), 50 in all.
MOST_TAGS = 32


def deploy(client, stack, given, ask, send, folder=ROOT / ".deploy", pause=time.sleep, tags=None):
    """Yields what was done. `ask(name, about, default)` answers a question, where SAM is not to ask all of them itself;
    `send(stack, parameters, architecture, tags)` builds and deploys. Without `tags` a stack keeps those that it has."""
    where = identity(client)
    yield f"account {where['account']}, Region {where['region']}, as {where['who']}"
    found = stacks.find(client, stack)
    refuse_state(client, stack, found)
    tags = {tag["Key"]: tag["Value"] for tag in (found or {}).get("Tags", [])} if tags is None else tags
    refuse_tags(tags)
    if ask is None:
        yield from ecs_role(client, pause)
        update(client, found, lambda: send(stack, None, architecture(given, found), tags))
        return
    path = folder / f"{stack}.json"
    parameters = answers(path, where, found, given, ask)
    parameters = with_arn(client, parameters)
    parameters = what_is_there(client, found, parameters, given)
    refuse_shared_prefix(client, stack, found, parameters)
    if found:
        refuse_stranding(client, found, parameters)
        refuse_names(client, stack, found, parameters)
        yield f"upgrading {stack}"
    else:
        refuse_names(client, stack, None, parameters)
        yield f"a new stack, {stack}"
        parameters = reserve(client, parameters)
        if parameters["WebhookReservedConcurrency"]:
            yield f"the webhook may run {parameters['WebhookReservedConcurrency']} times at once (WebhookReservedConcurrency)"
    yield from ecs_role(client, pause)
    is_drained = update(client, found, lambda: send(stack, parameters, architecture(parameters, found), tags))
    now = stacks.get(client, stack)
    keep(path, where, stacks.parameters(now))
    if is_drained:
        yield "it is still drained: `make resume` ends that"
    of_stack = stacks.outputs(now)
    yield "deployed" + (f". The webhook is {of_stack['WebhookUrl']}, its secret {of_stack['WebhookSecretName']}"
                        if "WebhookUrl" in of_stack else f", from the bus {of_stack['EventBusName']} on")


def update(client, found, send_):
    """An update, also one that is rolled back, tells reconcile its settings anew: what was drained is so again. Whether it was."""
    try:
        settings = stop.told_by_drain(client, found)
    except ClientError:
        settings = {}  # it may not be seen
    try:
        send_()
    finally:
        if settings:
            stop.set_variables(client, stacks.outputs(found)[stop.RECONCILE], settings)
    return bool(settings)


# -- Looking ---------------------------------------------------------------------------------------------


def identity(client):
    region = client("cloudformation").meta.region_name  # which STS does without
    who = stacks.identity(client)
    return {"account": who["Account"], "region": region, "who": who["Arn"]}


def refuse_state(client, stack, found):
    if refusal := stacks.refusal(client, stack, found):
        raise Failure(refusal)
    if found and found["StackStatus"].endswith("IN_PROGRESS"):
        raise Failure(f"{stack} is {found['StackStatus']}: somebody is changing it. Wait until that is over")


def refuse_tags(tags):
    need(len(tags) <= MOST_TAGS, f"TAGS: {len(tags)} are too many: a task has 50 at most, and {50 - MOST_TAGS} are taken")
    wrong = [key for key, value in tags.items() if not re.fullmatch(r"[\w.:/+@-]+=[\w.:/+@-]*", f"{key}={value}")]
    need(not wrong, f"TAGS: {', '.join(wrong)}: a key and its value have letters, digits and .:/+@_- only")


def ecs_role(client, pause):
    """Without ECS's service-linked role the first cluster of an account cannot have capacity providers."""
    iam = client("iam")
    try:
        if iam.list_roles(PathPrefix=ECS_ROLE)["Roles"]:
            return
        iam.create_service_linked_role(AWSServiceName="ecs.amazonaws.com")
    except ClientError as error:
        if stacks.code(error) in ("AccessDenied", "AccessDeniedException"):
            yield "whether this account has ECS's service-linked role cannot be seen with these credentials; going on"
            return
        raise
    for _ in range(LOOKS):
        if iam.list_roles(PathPrefix=ECS_ROLE)["Roles"]:
            # IAM shows it before ECS sees it.
            pause(10)
            yield "ECS's service-linked role was made: this account has not used ECS before"
            return
        pause(2)
    raise Failure("ECS's service-linked role was asked for and is not there after a minute: deploy again")


def refuse_stranding(client, found, parameters):
    now, of_stack = stacks.parameters(found), stacks.outputs(found)
    new = now | parameters
    changed = [name for name in STRANDS if name in now and new[name] != now[name]]
    changed += [name for name in STRANDS_WHERE_NONE_WAS if name in now and bool(new[name]) != bool(now[name])]
    if not changed or "ClusterName" not in of_stack:
        return
    of_queue = [name for name in changed if name in QUEUE]
    waiting = stacks.messages(client, of_stack["JobQueueUrl"]) if of_queue else 0
    need(not waiting, f"{', '.join(of_queue)}: {waiting} jobs wait on the queue, and would be nobody's: deploy this when none waits. "
         "Drained or stopped, `make resume` serves them; those that nobody needs can be cancelled at GitHub")
    of_tasks = [name for name in changed if name not in QUEUE]
    tasks = len(stacks.tasks(client, found)) if of_tasks else 0
    need(not tasks, f"{', '.join(of_tasks)} would change under {tasks} tasks: `make drain` first, and `make resume` afterwards")


def refuse_shared_prefix(client, stack, found, parameters):
    """Another stack that calls its runners alike, in the same organisation: each would delete the other's."""
    now = stacks.parameters(found) if found else {}
    new = all_of_them(found, parameters)
    if found and all(now.get(name) == new[name] for name in FLEET):
        return
    try:
        pages = client("cloudformation").get_paginator("describe_stacks").paginate()
        others = {it["StackName"]: stacks.parameters(it) for page in pages for it in page["Stacks"]
                  if it["StackStatus"] not in (*stacks.DEAD, "REVIEW_IN_PROGRESS", "DELETE_IN_PROGRESS")}
    except ClientError:
        return  # they may not be seen
    for name, theirs in others.items():
        if name == stack or not theirs.keys() >= set(FLEET):
            continue
        owners = {theirs["Organization"].lower(), new["Organization"].lower()}
        if (len(owners) == 1 or "*" in owners) and all(theirs[it] == new[it] for it in ("RunnerNamePrefix", "GitHubApiUrl")):
            raise Failure(f"RunnerNamePrefix: the stack {name} calls its runners {new['RunnerNamePrefix']}-… too, and each would "
                          "delete the other's: give another one. RunnerLabels or AllowedRepositories have to differ as well "
                          "(docs/operate.md#deploy-and-upgrade)")


def all_of_them(found, parameters):
    """The parameters that the stack will have."""
    defaults = {name: str(it.get("Default", "")) for name, it in defined().items()}
    return defaults | (stacks.parameters(found) if found else {}) | parameters


def what_is_there(client, found, parameters, given_):
    """What is to be used and not made has to be there. Adds the roles of a task definition."""
    new = all_of_them(found, parameters)

    def given(create, name):
        return new[name] if new[create] == "false" else None

    if cluster := given("CreateCluster", "ClusterName"):
        clusters = client("ecs").describe_clusters(clusters=[cluster])["clusters"]
        there = [it for it in clusters if it["status"] == "ACTIVE"]
        need(there, f"ClusterName: there is no cluster {cluster}")
        lacks = set(new["Capacity"].split(",")) - set(there[0].get("capacityProviders", []))
        need(not lacks, f"ClusterName: {cluster} lacks the capacity providers {', '.join(sorted(lacks))}: "
                        f"{stacks.with_providers(there[0], lacks)}")
    if bus := given("CreateEventBus", "EventBusName"):
        need(is_there(lambda name: client("events").describe_event_bus(Name=name), bus), f"EventBusName: there is no bus {bus}")
    if queue := given("CreateJobQueue", "JobQueueName"):
        need(is_there(lambda name: client("sqs").get_queue_url(QueueName=name), queue), f"JobQueueName: there is no queue {queue}")
    if family := given("CreateTaskDefinition", "TaskDefinitionFamily"):
        needed = roles(client, family, new)
        if not given_.get("PassRoleArns"):
            # Those of classes may be among what the stack has.
            had = [it for it in new["PassRoleArns"].split(",") if it]
            return parameters | {"PassRoleArns": ",".join(dict.fromkeys([*had, *needed]))}
    return parameters


def roles(client, family, parameters):
    """The roles of the newest task definition of a family, which has to be one that can be used."""
    try:
        definition = client("ecs").describe_task_definition(taskDefinition=family)["taskDefinition"]
    except ClientError as error:
        raise Failure(f"TaskDefinitionFamily: there is no task definition {family} ({stacks.code(error)})") from None
    need("FARGATE" in definition.get("requiresCompatibilities", []), f"TaskDefinitionFamily: {family} is not for FARGATE "
         "(requiresCompatibilities)")
    containers = [it["name"] for it in definition["containerDefinitions"]]
    need(parameters["ContainerName"] in containers, f"ContainerName: {family} has {', '.join(containers)}, and no "
         f"{parameters['ContainerName']}")
    return [definition[name] for name in ("taskRoleArn", "executionRoleArn") if definition.get(name)]


def need(holds, otherwise):
    if not holds:
        raise Failure(otherwise)


def refuse_names(client, stack, found, parameters):
    """Names that this stack or one before has left behind: CloudFormation would find them when it is half done."""
    wanted, owned = names.kept(stack, all_of_them(found, parameters), names.template()), set()
    if found:
        try:
            pages = client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack)
            resources = [it for page in pages for it in page["StackResourceSummaries"]]
        except ClientError:
            return  # what is the stack's own cannot be told
        owned = {(it["ResourceType"], names.of(it["ResourceType"], it["PhysicalResourceId"])) for it in resources
                 if it["ResourceType"] in names.NAMED and not it["ResourceStatus"].startswith("DELETE_")}
    there = sorted((it for it in wanted - owned if is_there(LOOKS_FOR[it[0]], client, it[1])), key=lambda it: it[1])
    if not there:
        return
    told = ", ".join(f"{KINDS[kind]} {name}" for kind, name in there)
    if found:
        raise Failure(f"these are left of before, and this change needs their names: {told}. Look what is in them, then delete them: "
                      f"{'; '.join(DELETES[kind].format(name) for kind, name in there)}. Or keep them: docs/operate.md#what-is-left-behind")
    raise Failure(f"a stack before has left these, or another one has them, and a new one needs their names: {told}. "
                  f"`make delete LEFTOVERS=1 STACK={stack}` deletes what a stack of this name has left; with another STACK, "
                  "JobQueueName and TaskDefinitionFamily they are left alone")


def reserve(client, parameters):
    """A limit for the webhook, where nobody gave one and the account has concurrency to reserve; a new account has not."""
    if "WebhookReservedConcurrency" in parameters:
        return parameters
    try:
        has = client("lambda").get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    except ClientError:
        has = 0  # it may not be seen
    return parameters | {"WebhookReservedConcurrency": str(RESERVED) if has >= UNRESERVED + RESERVED else ""}


def is_there(look, *whatever):
    try:
        return bool(look(*whatever))
    except ClientError:
        return False  # or it may not be seen: then CloudFormation says so


# -- Asking ----------------------------------------------------------------------------------------------


def defined():
    return names.template()["Parameters"]


def wrong(definition, value):
    """What is wrong with a parameter's value, or nothing."""
    if "AllowedValues" in definition:
        allowed = [str(it) for it in definition["AllowedValues"]]
        return None if value in allowed else f"one of {', '.join(allowed)}"
    if not re.fullmatch(definition.get("AllowedPattern", ".*"), value):
        return definition.get("ConstraintDescription", definition.get("AllowedPattern"))
    return None


def answers(path, where, found, given, ask):
    kept = json.loads(path.read_text()) if path.exists() else where | {"parameters": {}}
    for what in ("account", "region"):
        if kept[what] != where[what]:
            raise Failure(f"{path} is about {what} {kept[what]}, and you are in {where[what]}: another STACK, or delete the file")
    definitions, now = defined(), stacks.parameters(found or {})
    # What a stack has is newer than the file. A template before may have had other parameters.
    before = {} if found else {name: value for name, value in kept["parameters"].items() if name in definitions}
    parameters = before | given
    for name, value in parameters.items():
        if name not in definitions:
            raise Failure(f"template.yaml has no parameter {name}")
        if not is_name(name, value) and (what := wrong(definitions[name], value)):
            raise Failure(f"{name} is {value!r}, and should be: {what}")
    for name in ASKED:
        if name not in parameters and name not in now:
            parameters[name] = asked(name, definitions[name], ask)
    return parameters


def asked(name, definition, ask):
    default = definition.get("Default")
    while True:
        value = ask(name, definition["Description"], default)
        value = str(default) if value == "" and default is not None else value
        what = None if is_name(name, value) else wrong(definition, value)
        if what is None:
            return value
        print(f"{name} should be: {what}", file=sys.stderr)


def is_name(name, value):
    """A secret may be given by its name."""
    return name == "GitHubSecretArn" and value and not value.startswith("arn:")


def with_arn(client, parameters):
    name = parameters.get("GitHubSecretArn", "")
    if not is_name("GitHubSecretArn", name):
        return parameters
    try:
        return parameters | {"GitHubSecretArn": client("secretsmanager").describe_secret(SecretId=name)["ARN"]}
    except ClientError as error:
        raise Failure(f"GitHubSecretArn: there is no secret {name} here ({stacks.code(error)})") from None


def keep(path, where, now):
    """What a stack has that is not the template's default, or was asked for."""
    definitions = defined()
    parameters = {name: value for name, value in now.items() if name in ASKED or value != str(definitions[name].get("Default", ""))}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({key: where[key] for key in ("account", "region")} | {"parameters": parameters}, indent=2) + "\n")


def ask_at_terminal(name, about, default):
    if not sys.stdin.isatty():
        if default is not None:
            return str(default)
        raise Failure(f"nobody can be asked here: PARAMETERS=\"{name}=...\"")
    print(f"\n{about}")
    return input(f"{name}{'' if default is None else f' [{default}]'}: ").strip()


# -- Doing -----------------------------------------------------------------------------------------------


def architecture(parameters, found):
    """What the functions are built for."""
    return parameters.get("Architecture") or stacks.parameters(found or {}).get("Architecture") or package.ARCHITECTURES[0]


def send(stack, parameters, architecture_, tags, root=ROOT, run=None):
    """A release is deployed as it is; otherwise it is built. `run(command)` runs one in the checkout."""
    run = run or run_here
    text = (root / "template.yaml").read_text(encoding="utf-8")
    about = package.release(root / "dist", text, package.commit(root))
    if about:
        print(f"release {about['version']} of dist/, commit {about['commit'][:12]}: nothing is built", flush=True)
        zips = {name: root / "dist" / f"{name}-{architecture_}.zip" for name in package.FUNCTIONS}
        image = root / "dist" / "image.zip"
    else:
        run(["make", "--no-print-directory", "build", f"ARCHITECTURE={architecture_}"])
        zips = {name: root / "target" / "lambda" / name / "bootstrap.zip" for name in package.FUNCTIONS}
        image = root / "image"
        code = {f"{name}-{architecture_}": package.code_sha256(path) for name, path in zips.items()}
        about = {"version": "built here", "commit": package.commit(root) or "unknown", "code": code}
    places = zips | {"image": image}
    path = root / ".aws-sam" / "packaged.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(package.packaged(text, lambda name: json.dumps(str(places[name])), about), encoding="utf-8")
    run(command(stack, parameters, architecture_, path, tags))


def run_here(command_):
    tools = os.pathsep.join([str(ROOT / ".venv" / "deploy" / "bin"), os.environ["PATH"]])
    # SAM is told as boto3 is.
    region = {"AWS_DEFAULT_REGION": stacks.region()} if stacks.region() else {}
    subprocess.run(command_, cwd=ROOT, env=os.environ | {"PATH": tools} | region, check=True)


def command(stack, parameters, architecture_, template, tags):
    """With parameters it asks nothing: not of the change set, nor whether a URL without AWS's own authentication is meant."""
    deploy_ = ["sam", "deploy", "--template-file", str(template), "--stack-name", stack, "--capabilities", "CAPABILITY_IAM",
               "--resolve-s3"]
    # Without --tags SAM would take away those that the stack has.
    deploy_ += ["--tags", *(f"{key}={value}" for key, value in tags.items())] if tags else []
    pairs = [f"ParameterKey={name},ParameterValue={shlex.quote(value)}" for name, value in (parameters or {}).items()]
    if parameters is None:
        return [*deploy_, "--guided", "--parameter-overrides", f"ParameterKey=Architecture,ParameterValue={architecture_}"]
    return [*deploy_, "--no-confirm-changeset", "--no-fail-on-empty-changeset", "--parameter-overrides", *pairs]


def read_parameters(text):
    """Name=value, as a shell splits words. A document in braces is taken as it is: it needs its quotes."""
    documents = {}
    while begins := re.search(r"(?:^|(?<=\s))(\w+)=(?=\{)", text):
        try:
            _, end = json.JSONDecoder().raw_decode(text, begins.end())
        except ValueError as error:
            raise Failure(f"{begins[1]} is no JSON ({error}): PARAMETERS='{begins[1]}={{\"version\": 1, …}}', the quotes of a shell around "
                          "all of it") from None
        documents[begins[1]] = text[begins.end():end]
        text = f"{text[:begins.start()]} {text[end:]}"
    pairs = [pair.partition("=") for pair in shlex.split(text)]
    return {name: value for name, _, value in pairs} | documents


if __name__ == "__main__":
    def done():
        try:
            yield from deploy(stacks.client, sys.argv[1], read_parameters(os.environ.get("PARAMETERS", "")),
                              None if os.environ.get("GUIDED") else ask_at_terminal, send,
                              tags=read_parameters(os.environ["TAGS"]) if "TAGS" in os.environ else None)
        except subprocess.CalledProcessError as error:
            raise Failure(f"{' '.join(error.cmd[:2])} ended with {error.returncode}; what it printed says why") from None
    stacks.main("deploy", done)

"""What changing a parameter does to the stack, worked out from the template before and after and from CloudFormation's
resource schemas: which properties can only be given when a resource is made."""

import functools
import re

from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from lint import ARN, transformed
from policies import PSEUDO, Stack
from test_policies import TEMPLATE, TOKEN

REGION = "us-east-1"
MINTED = {"Organization": "acme", "GitHubSecretArn": TOKEN}
NETWORK = {"SubnetIds": "subnet-0123456789abcdef0", "SecurityGroupIds": "sg-0123456789abcdef0"}
CONTAINERS = {"Organization": "acme", "Mode": "container-minted"}
FUNCTIONS = {"FunctionSubnetIds": "subnet-0123456789abcdef0", "FunctionSecurityGroupIds": "sg-0123456789abcdef0"}
ROLE = "arn:aws:iam::111122223333:role/somebody"
# Parameter -> (the parameters before, the value after). Those that are not here have another value by themselves.
CHANGES = {
    "Organization": (MINTED, "other"), "GitHubSecretArn": ({"Organization": "acme"}, TOKEN), "RunnerScope": (MINTED, "repo"),
    "Mode": ({"Organization": "acme"}, "container-minted"),
    "AccessTokenSecretArn": (CONTAINERS, TOKEN), "GitHubApiUrl": (MINTED, "https://ghe.example.com/api/v3"),
    "RunnerLabels": (MINTED, "self-hosted,ours"), "AllowedRepositories": (MINTED, "acme/*"),
    "RunnerImage": (MINTED, "example.com/runner:1"), "TaskMemory": (MINTED, "4096"), "TaskCpu": (MINTED, "512"),
    "TaskPolicyArns": (MINTED | {"RunnerGroupId": "7"}, "arn:aws:iam::aws:policy/ReadOnlyAccess"),
    "VpcId": (MINTED | {"SubnetIds": NETWORK["SubnetIds"], "VpcId": "vpc-0123456789abcdef0"}, "vpc-0123456789abcdef1"),
    "SubnetIds": (MINTED | NETWORK, "subnet-0123456789abcdef1"),
    "SecurityGroupIds": (MINTED | NETWORK, "sg-0123456789abcdef1"),
    "MonthlyBudget": (MINTED | {"AlarmTopicArn": ARN.format("sns", "page")}, "100"),
    "AlarmTopicArn": (MINTED, ARN.format("sns", "page")), "TicketTopicArn": (MINTED, ARN.format("sns", "ticket")),
    "WebhookReservedConcurrency": (MINTED, "5"), "EventBusPutterArns": (MINTED, ROLE), "QueueOperatorArns": (MINTED, ROLE),
    "RepositoryCredentialsArn": (MINTED | {"RunnerImage": "example.com/runner:1"}, TOKEN),
    "FunctionSubnetIds": (MINTED | FUNCTIONS, "subnet-0123456789abcdef1"), "FunctionSecurityGroupIds": (MINTED | FUNCTIONS, "sg-1"),
    "HttpsProxy": (MINTED, "http://proxy.example.com:3128"), "NoProxy": (MINTED, "amazonaws.com"),
    "CaCertificates": (MINTED, "-----BEGIN CERTIFICATE----- AAAA -----END CERTIFICATE-----"),
    "SecretKmsKeyArn": (MINTED, ARN.format("kms", "key/0123")),
    "PermissionsBoundaryArn": (MINTED, "arn:aws:iam::111122223333:policy/boundary"),
    "EnableDockerClass": (MINTED | NETWORK | {"AssignPublicIp": "DISABLED"}, "true"),
    "DockerImage": (MINTED | NETWORK | {"AssignPublicIp": "DISABLED", "EnableDockerClass": "true"}, "example.com/docker:dind"),
    "ContainerName": (MINTED, "second"), "WebhookSecretArn": (MINTED, TOKEN),
    "RunnerClasses": (MINTED, "s3://acme-settings/classes.json"),
    "PassRoleArns": (MINTED | {"CreateTaskDefinition": "false"}, ROLE), "CreateJobQueue": (MINTED | {"CreateEventBus": "false"}, "false"),
    "ClusterName": (MINTED, "second"), "TaskDefinitionFamily": (MINTED, "second"), "EventBusName": (MINTED, "second"),
    "RuleName": (MINTED, "second"), "JobQueueName": (MINTED, "second"), "RunnerNamePrefix": (MINTED, "second"),
}
# Not another value, but one where there was none, or none where there was one.
FIRST_GIVEN = "SubnetIds, SecurityGroupIds: given for the first time"
BUDGET = MINTED | {"MonthlyBudget": "50", "AlarmTopicArn": ARN.format("sns", "page")}
WITH_BUDGET = "AlarmTopicArn, TicketTopicArn: with MonthlyBudget"
NO_DOOR = "FrontDoor: none"
# Which runners live in, or jobs wait on.
LIVED_IN = {"Cluster", "JobQueue", "LifecycleQueue", "Vpc", "SubnetA", "SubnetB", "RunnerSecurityGroup"}


def before_and_after(name, definition):
    if name in CHANGES:
        before, value = CHANGES[name]
        return before, before | {name: value}
    default = str(definition["Default"])
    values = [str(it) for it in definition.get("AllowedValues", [])] or (["7", "70"] if default.isdigit() else [])
    return MINTED, MINTED | {name: next(value for value in values if value != default)}


def filled_in(value, parameters):
    """Parameters and pseudo parameters replaced by their values; references to resources stay."""
    if isinstance(value, dict):
        if value.keys() == {"Ref"} and value["Ref"] in parameters:
            return parameters[value["Ref"]]
        if value.keys() == {"Fn::Sub"} and isinstance(value["Fn::Sub"], str):
            return {"Fn::Sub": re.sub(r"\$\{([\w:]+)\}", lambda match: parameters.get(match[1], match[0]), value["Fn::Sub"])}
        return {key: filled_in(part, parameters) for key, part in value.items()}
    if isinstance(value, list):
        return [filled_in(part, parameters) for part in value]
    return value


def resources(given):
    return resources_of(tuple(given.items()))


@functools.cache
def resources_of(given):
    given = dict(given)
    stack = Stack(TEMPLATE, **given)
    return filled_in(transformed(given)["Resources"], stack.parameters | PSEUDO)


def only_when_made(kind):
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema
    return {path.split("/")[2] for path in schema.get("createOnlyProperties", [])}


def refers(value, names):
    if isinstance(value, dict):
        if value.keys() == {"Ref"}:
            return value["Ref"] in names
        if value.keys() == {"Fn::GetAtt"}:
            target = value["Fn::GetAtt"]
            return (target.split(".")[0] if isinstance(target, str) else target[0]) in names
        if value.keys() == {"Fn::Sub"}:
            text = value["Fn::Sub"] if isinstance(value["Fn::Sub"], str) else value["Fn::Sub"][0]
            if names & set(re.findall(r"\$\{(\w+)", text)):
                return True
        return any(refers(part, names) for part in value.values())
    return isinstance(value, list) and any(refers(part, names) for part in value)


def changed(before, after):
    """(made anew, made or removed, changed in place): names of resources."""
    both = before.keys() & after.keys()
    fixed = {name: only_when_made(after[name]["Type"]) for name in both}

    def differs(name, properties):
        old, new = (side[name].get("Properties", {}) for side in (before, after))
        return any(old.get(key) != new.get(key) for key in properties)

    anew = {name for name in both if differs(name, fixed[name]) or before[name]["Type"] != after[name]["Type"]}
    while True:
        # What can only be made with the name of another is made anew with that.
        more = {name for name in both - anew
                if any(refers(after[name].get("Properties", {}).get(key), anew) for key in fixed[name])}
        if not more:
            break
        anew |= more
    in_place = {name for name in both - anew
                if before[name].get("Properties") != after[name].get("Properties") or refers(after[name].get("Properties"), anew)}
    return anew, before.keys() ^ after.keys(), in_place


def of_every_parameter():
    return {name: changed(*map(resources, given)) for name, given in every_change().items()}


def every_change():
    """What is changed -> the parameters before and after."""
    definitions = Stack(TEMPLATE).template["Parameters"]
    changes = {name: before_and_after(name, it) for name, it in definitions.items()}
    return changes | {FIRST_GIVEN: (MINTED, MINTED | NETWORK),
                      NO_DOOR: (MINTED, MINTED | {"FrontDoor": "none"}),
                      WITH_BUDGET: (BUDGET, BUDGET | {"TicketTopicArn": ARN.format("sns", "ticket")})}


def names(resource):
    """What a resource is called by the template, where that can only be given when it is made: path -> name."""
    schema, found = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, resource["Type"]).schema, {}
    for path in schema.get("createOnlyProperties", []):
        value = resource
        for part in ["Properties", *path.split("/")[2:]]:
            value = value.get(part, {}) if isinstance(value, dict) else {}
        if path.endswith("Name") and value:
            found[path] = value
    return found


def table(changes):
    """Rows for the runbook: of parameters that make something anew, make or remove it. Those that do the same share one."""
    rows = {}
    for name, (anew, other, _) in changes.items():
        # A layer's name ends in a digest of its contents.
        key = tuple(re.sub(r"\b(ImageSource)\w+", r"\1", ", ".join(sorted(it))) or "-" for it in (anew, other))
        if key != ("-", "-"):
            rows.setdefault(key, []).append(name)
    lines = ["| parameter | made anew | made or removed |", "| --- | --- | --- |"]
    return lines + [f"| {', '.join(f'`{name}`' for name in told)} | {anew} | {other} |"
                    for (anew, other), told in sorted(rows.items(), key=lambda row: row[1])]


if __name__ == "__main__":
    print("\n".join(table(of_every_parameter())))

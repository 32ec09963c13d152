"""What is wrong with a deployed stack, and the fix: what `make doctor` runs.

What a function's own role must be able to do is asked of the reconcile function, by invoking it with {"doctor": …}; the
rest is looked at here, with your AWS credentials. Nothing is changed. What we may not look at is unknown, with the action
that is missing, and never a failure. Exit code: 0 nothing fails, 1 something does, 2 there was nothing to look at.
"""

import argparse
import json
import os
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from stack import FARGATE_VCPUS, Failed, Stack, is_usable, outputs, parameters, why

FUNCTIONS = ["WebhookFunctionName", "DispatchFunctionName", "ReconcileFunctionName"]
DEAD_LETTER_QUEUES = ["JobDeadLetterQueueUrl", "LifecycleDeadLetterQueueUrl"]
FEW_ADDRESSES = 16
DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "AccessDeniedFault")
LIMITS = Config(connect_timeout=5, read_timeout=20, retries={"max_attempts": 2})


def check(id_, status, what, found="", fix=""):
    return {"id": id_, "status": status, "what": what, "found": found, "fix": fix}


class Seen:
    """The stack under examination."""

    def __init__(self, stack, found_outputs, found_parameters):
        self.stack, self.outputs, self.parameters = stack, found_outputs, found_parameters

    def client(self, service):
        return self.stack.session.client(service, config=LIMITS)

    def variables(self):
        """What the dispatch function is told."""
        function = self.outputs["DispatchFunctionName"]
        found = self.client("lambda").get_function_configuration(FunctionName=function)
        return found.get("Environment", {}).get("Variables", {})


# -- The checks: each yields what it found --------------------------------------------------------------------


def there(seen, keys):
    """Those of the outputs that a stack has which was given the rest (docs/install.md, "You followed the articles")."""
    return [key for key in keys if key in seen.outputs]


def functions_run(seen):
    functions = seen.client("lambda")
    for key in there(seen, FUNCTIONS):
        name = seen.outputs[key]
        found = functions.get_function_configuration(FunctionName=name)
        state, update = found.get("State", "Active"), found.get("LastUpdateStatus", "Successful")
        if state == "Failed" or update == "Failed":
            yield check("functions", "fail", "the functions are active", f"{name}: {state}, last update {update}", "make deploy")
            continue
        reserved = functions.get_function_concurrency(FunctionName=name).get("ReservedConcurrentExecutions")
        if reserved == 0:
            yield check("functions", "fail", "the functions may run", f"{name} is stopped", "make resume")
    yield check("functions", "ok", "the functions are active")


def messages_reach_functions(seen):
    functions = seen.client("lambda")
    for key in there(seen, FUNCTIONS[1:]):
        mappings = functions.list_event_source_mappings(FunctionName=seen.outputs[key])["EventSourceMappings"]
        if not mappings:
            yield check("mappings", "fail", "the queues' messages go to the functions", f"{seen.outputs[key]} has no queue",
                        "make deploy")
        for mapping in mappings:
            if mapping["State"] not in ("Enabled", "Enabling", "Creating", "Updating"):
                yield check("mappings", "fail", "the queues' messages go to the functions",
                            f"{seen.outputs[key]}: {mapping['State']}",
                            f"aws lambda update-event-source-mapping --uuid {mapping['UUID']} --enabled")
    yield check("mappings", "ok", "the queues' messages go to the functions")


def events_reach_queues(seen):
    if seen.parameters.get("CreateJobQueue") == "false":
        return  # which rule fills it is known to who made it
    events = seen.client("events")
    bus, name = seen.outputs["EventBusName"], seen.parameters.get("RuleName", "trigger-jit-self-hosted-runner")
    try:
        rule = events.describe_rule(Name=name, EventBusName=bus)
    except events.exceptions.ResourceNotFoundException:
        yield check("rules", "fail", "queued jobs go to the job queue", f"there is no rule {name}", "make deploy")
        return
    if rule["State"] == "DISABLED":
        yield check("rules", "fail", "queued jobs go to the job queue", f"the rule {name} is disabled",
                    f"aws events enable-rule --name {name} --event-bus-name {bus}")
    elif not events.list_targets_by_rule(Rule=name, EventBusName=bus)["Targets"]:
        yield check("rules", "fail", "queued jobs go to the job queue", f"the rule {name} has no target", "make deploy")
    yield check("rules", "ok", "queued jobs go to the job queue")


def nothing_is_dead(seen):
    sqs = seen.client("sqs")
    for dead in there(seen, DEAD_LETTER_QUEUES):
        url = seen.outputs[dead]
        counts = ["ApproximateNumberOfMessages", "QueueArn"]
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=counts)["Attributes"]
        if int(found["ApproximateNumberOfMessages"]):
            yield check("dead-letters", "warn", "no message was given up",
                        f"{found['ApproximateNumberOfMessages']} in {url.rsplit('/', 1)[-1]}; the attribute reason says why",
                        f"mend that, then aws sqs start-message-move-task --source-arn {found['QueueArn']}")
    yield check("dead-letters", "ok", "no message was given up")


def cluster_is_there(seen):
    name = seen.outputs["ClusterName"]
    clusters = seen.client("ecs").describe_clusters(clusters=[name])["clusters"]
    if not clusters or clusters[0]["status"] != "ACTIVE":
        yield check("cluster", "fail", "the cluster is active", f"{name}: {clusters[0]['status'] if clusters else 'none'}",
                    "make deploy")
        return
    wanted = set(seen.parameters.get("Capacity", "FARGATE").split(","))
    if missing := wanted - set(clusters[0].get("capacityProviders", [])):
        yield check("cluster", "fail", "the cluster has its capacity providers", f"{name} lacks {', '.join(sorted(missing))}",
                    f"aws ecs put-cluster-capacity-providers --cluster {name} --capacity-providers FARGATE FARGATE_SPOT "
                    "--default-capacity-provider-strategy")
    yield check("cluster", "ok", "the cluster is active")


def task_definition_fits(seen):
    ecs = seen.client("ecs")
    family = seen.parameters.get("TaskDefinitionFamily", "gha-jit-self-hosted-fargate-runner")
    wanted = [(family, "X86_64")]
    if seen.parameters.get("EnableArm64") == "true":
        wanted.append((f"{family}-arm64", "ARM64"))
    container = seen.parameters.get("ContainerName", "runner")
    for family, architecture in wanted:
        try:
            found = ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
        except ecs.exceptions.ClientException as error:
            yield check("task-definition", "fail", "the task definition is active", why(error), "make deploy")
            return
        names = [container["name"] for container in found["containerDefinitions"]]
        if found.get("status") == "INACTIVE":
            yield check("task-definition", "fail", "the task definition is active", f"{family} is inactive", "make deploy")
        elif container not in names:
            yield check("task-definition", "fail", f"the task definition has the container {container}", f"it has {', '.join(names)}",
                        "make deploy, which registers it anew")
        elif found.get("runtimePlatform", {}).get("cpuArchitecture", "X86_64") != architecture:
            yield check("task-definition", "fail", f"the task definition is for {architecture}",
                        found["runtimePlatform"]["cpuArchitecture"], "make deploy, which registers it anew")
    yield check("task-definition", "ok", "the task definition is active")


def subnets_have_room(seen):
    ids = seen.variables()["SUBNET_IDS"].split(",")
    try:
        subnets = seen.client("ec2").describe_subnets(SubnetIds=ids)["Subnets"]
    except ClientError as error:
        if "NotFound" not in why(error):
            raise
        yield check("subnets", "fail", "the subnets are there", why(error), "make deploy with SubnetIds that exist")
        return
    for subnet in subnets:
        if subnet["AvailableIpAddressCount"] < FEW_ADDRESSES:
            yield check("subnets", "warn", "the subnets have free addresses",
                        f"{subnet['SubnetId']}: {subnet['AvailableIpAddressCount']}",
                        "make deploy with more or larger SubnetIds: each runner takes an address")
    if len({subnet["AvailabilityZone"] for subnet in subnets}) < 2:
        yield check("subnets", "warn", "the subnets are in two zones", "one", "make deploy with SubnetIds in several zones: "
                    "Fargate can be out of capacity in one")
    yield check("subnets", "ok", "the subnets have free addresses, in several zones")


def runners_reach_github(seen):
    variables = seen.variables()
    public = variables.get("ASSIGN_PUBLIC_IP", "ENABLED") == "ENABLED"
    ec2 = seen.client("ec2")
    for subnet in variables["SUBNET_IDS"].split(","):
        tables = ec2.describe_route_tables(Filters=[{"Name": "association.subnet-id", "Values": [subnet]}])["RouteTables"]
        if not tables:
            vpc = ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["VpcId"]
            tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]},
                                                        {"Name": "association.main", "Values": ["true"]}])["RouteTables"]
        routes = [route for table in tables for route in table["Routes"]
                  if route.get("DestinationCidrBlock") == "0.0.0.0/0" and route.get("State", "active") == "active"]
        through_gateway = any(route.get("GatewayId", "").startswith("igw-") for route in routes)
        if not routes:
            yield check("way-out", "fail", "runners reach github.com", f"{subnet} has no route to 0.0.0.0/0",
                        "a NAT gateway or an internet gateway in its route table, or other SubnetIds")
        elif through_gateway and not public:
            yield check("way-out", "fail", "runners reach github.com",
                        f"{subnet} leads to an internet gateway, and runners have no public address",
                        "make deploy with AssignPublicIp=ENABLED, or subnets with a NAT gateway")
    yield check("way-out", "ok", "runners reach github.com")


def groups_let_out(seen):
    ids = seen.variables()["SECURITY_GROUP_IDS"].split(",")
    groups = seen.client("ec2").describe_security_groups(GroupIds=ids)["SecurityGroups"]
    https = [rule for group in groups for rule in group["IpPermissionsEgress"]
             if rule["IpProtocol"] == "-1" or (rule["IpProtocol"] == "tcp" and rule["FromPort"] <= 443 <= rule["ToPort"])]
    if not https:
        yield check("security-groups", "fail", "runners may call out", f"{', '.join(ids)} let nothing out on 443",
                    f"aws ec2 authorize-security-group-egress --group-id {ids[0]} --protocol -1 --cidr 0.0.0.0/0")
    if any(group["IpPermissions"] for group in groups):
        yield check("security-groups", "warn", "nothing may call runners", f"{', '.join(ids)} have inbound rules",
                    "remove them: a runner needs none")
    yield check("security-groups", "ok", "runners may call out")


def quota_is_enough(seen):
    quotas = seen.client("service-quotas")
    value = quotas.get_service_quota(ServiceCode="fargate", QuotaCode=FARGATE_VCPUS)["Quota"]["Value"]
    used = sum(int(task.get("cpu", 0)) for task in seen.stack.tasks(seen.outputs["ClusterName"])) / 1024
    region = seen.stack.session.region_name
    if used > 0.8 * value:
        yield check("quota", "warn", "Fargate's quota is enough", f"{used:g} of {value:g} vCPU are used",
                    f"https://{region}.console.aws.amazon.com/servicequotas/home/services/fargate/quotas/{FARGATE_VCPUS}")
    yield check("quota", "ok", f"Fargate's quota is enough ({value:g} vCPU)")


def alarms_tell_somebody(seen):
    found = seen.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{seen.stack.name}-")["MetricAlarms"]
    if not found:
        yield check("alarms", "fail", "there are alarms", "none of this stack", "make deploy")
        return
    ringing = [alarm["AlarmName"] for alarm in found if alarm["StateValue"] == "ALARM"]
    if ringing:
        yield check("alarms", "warn", "no alarm rings", ", ".join(ringing), "its description says what to do")
    if not any(alarm["AlarmActions"] for alarm in found):
        yield check("alarms", "warn", "alarms tell somebody", "they tell nobody", "make deploy with AlarmTopicArn")
    yield check("alarms", "ok", "there are alarms, and they tell somebody")


CHECKS = [functions_run, messages_reach_functions, events_reach_queues, nothing_is_dead, cluster_is_there,
          task_definition_fits, subnets_have_room, runners_reach_github, groups_let_out, quota_is_enough,
          alarms_tell_somebody]


# -- All of them -----------------------------------------------------------------------------------------------


def examine(stack, found_outputs, found_parameters):
    """Every check, the functions' own first."""
    seen = Seen(stack, found_outputs, found_parameters)
    with ThreadPoolExecutor(max_workers=4) as pool:
        ours = list(pool.map(lambda looks: one(looks, seen), CHECKS))
    return functions_own(seen) + [found for report in ours for found in report]


def one(looks, seen):
    """What one check found. The last that it yields is that all is well, and counts only if nothing else came."""
    name = looks.__name__.replace("_", " ")
    try:
        found = list(looks(seen))
        return [result for result in found if result["status"] != "ok"] or found
    except ClientError as error:
        if error.response["Error"].get("Code") in DENIED:
            return [check(looks.__name__, "unknown", name, f"{error.operation_name} is not allowed to you",
                          f"allow the action of {error.operation_name} to who runs this")]
        return [check(looks.__name__, "unknown", name, why(error))]
    except (BotoCoreError, KeyError) as error:
        return [check(looks.__name__, "unknown", name, f"{type(error).__name__}: {error}")]


def functions_own(seen):
    if seen.parameters.get("Mode") == "container-minted" or len(there(seen, FUNCTIONS)) < len(FUNCTIONS):
        return []
    try:
        answer = seen.stack.invoke(seen.outputs["ReconcileFunctionName"],
                                   {"doctor": {"webhook_url": seen.outputs["WebhookUrl"]}})
        return answer["checks"]
    except (Failed, KeyError, TypeError) as error:
        return [check("github", "unknown", "what the functions see of GitHub", str(error),
                      "allow lambda:InvokeFunction on the reconcile function")]


def table(report):
    """For people: a line a check, and its fix below it."""
    marks = {"ok": "ok     ", "warn": "warn   ", "fail": "FAIL   ", "unknown": "unknown"}
    lines = []
    for found in report:
        lines.append(f"{marks[found['status']]}  {found['what']}" + (f": {found['found']}" if found.get("found") else ""))
        if found.get("fix") and found["status"] != "ok":
            lines.extend(textwrap.wrap(f"fix: {found['fix']}", 118, initial_indent=" " * 9, subsequent_indent=" " * 14,
                                       break_long_words=False, break_on_hyphens=False))
    return "\n".join(lines)


def look(name):
    stack = Stack(name)
    found = stack.describe()
    if found is None:
        raise Failed(f"there is no stack {name} in {stack.session.region_name}; way on: make setup ORG=…, or STACK=…")
    if not is_usable(found) and not found["StackStatus"].endswith("_IN_PROGRESS"):
        return [check("stack", "fail", "the stack is deployed", found["StackStatus"], stack.unusable(found))]
    return [check("stack", "ok", f"the stack is deployed ({found['StackStatus']})"),
            *examine(stack, outputs(found), parameters(found))]


def main():
    parser = argparse.ArgumentParser(prog="make doctor", description=__doc__.splitlines()[0])
    parser.add_argument("--stack", default="gha-fargate-runners")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        report = look(options.stack)
    except (Failed, BotoCoreError, ClientError) as error:
        print(f"doctor: {error if isinstance(error, Failed) else why(error)}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=1) if options.json else table(report))
    return 1 if any(found["status"] == "fail" for found in report) else 0


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())

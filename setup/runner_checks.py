"""Would a task start, and would it reach GitHub? Checks of the doctor."""

from datetime import datetime, timedelta, timezone

from botocore.exceptions import ClientError

from finding import check
from stack import FARGATE_SPOT_VCPUS, FARGATE_VCPUS, why, with_providers

FEW_ADDRESSES = 16
# Capacity provider -> its quota, and its class in AWS/Usage.
QUOTAS = {"FARGATE": (FARGATE_VCPUS, "Standard/OnDemand"), "FARGATE_SPOT": (FARGATE_SPOT_VCPUS, "Standard/Spot")}
# CPU units -> the least and the most MiB ("Task CPU and memory").
SIZES = {256: (512, 2048), 512: (1024, 4096), 1024: (2048, 8192), 2048: (4096, 16384), 4096: (8192, 30720),
         8192: (16384, 61440), 16384: (32768, 122880)}


def cluster_is_there(seen):
    name = seen.outputs["ClusterName"]
    clusters = seen.client("ecs").describe_clusters(clusters=[name])["clusters"]
    if not clusters or clusters[0]["status"] != "ACTIVE":
        yield check("cluster", "fail", "the cluster is active", f"{name}: {clusters[0]['status'] if clusters else 'none'}",
                    f"aws ecs create-cluster --cluster-name {name} --capacity-providers FARGATE FARGATE_SPOT")
        return
    wanted = set(seen.parameters.get("Capacity", "FARGATE").split(","))
    if missing := wanted - set(clusters[0].get("capacityProviders", [])):
        yield check("cluster", "fail", "the cluster has its capacity providers", f"{name} lacks {', '.join(sorted(missing))}",
                    with_providers(clusters[0], missing))
    yield check("cluster", "ok", "the cluster is active")


def task_definition_fits(seen):
    ecs, what = seen.client("ecs"), "the task definition is active"
    for family, architecture in seen.families():
        try:
            found = ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
        except ecs.exceptions.ClientException as error:
            yield check("task-definition", "fail", what, why(error), "make deploy with another TaskDefinitionFamily")
            return
        if wrong := flaw(found, architecture, seen.container()):
            # A family means its newest revision, which anybody may have registered.
            newest = found["taskDefinitionArn"].rsplit("/", 1)[-1]
            yield check("task-definition", "fail", "the task definition fits", f"{newest} {wrong}",
                        f"aws ecs deregister-task-definition --task-definition {newest}: then the one before counts")
    yield check("task-definition", "ok", what)


def flaw(definition, architecture, container):
    names = [container["name"] for container in definition["containerDefinitions"]]
    cpu, memory = int(definition.get("cpu") or 0), int(definition.get("memory") or 0)
    least, most = SIZES.get(cpu, (1, 0))
    theirs = definition.get("runtimePlatform", {}).get("cpuArchitecture", "X86_64")
    if definition.get("status") == "INACTIVE":
        return "is inactive"
    if container not in names:
        return f"has no container {container}, but {', '.join(names)}"
    if theirs != architecture:
        return f"is for {theirs}, and should be for {architecture}"
    if not least <= memory <= most:
        return f"has {cpu} CPU units with {memory} MiB, which Fargate has not"
    return None


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
    region = seen.stack.session.region_name
    for provider in seen.parameters.get("Capacity", "FARGATE").split(","):
        code, class_ = QUOTAS[provider]
        quota = seen.client("service-quotas").get_service_quota(ServiceCode="fargate", QuotaCode=code)["Quota"]["Value"]
        link = f"https://{region}.console.aws.amazon.com/servicequotas/home/services/fargate/quotas/{code}"
        size = int(seen.parameters.get("TaskCpu") or 1024) / 1024
        if quota < size:
            yield check("quota", "fail", f"the quota of {provider} is enough", f"{quota:g} vCPU, and a runner takes {size:g}", link)
        elif (used := vcpus_in_use(seen, class_)) > 0.8 * quota:
            yield check("quota", "warn", f"the quota of {provider} is enough", f"{used:g} of {quota:g} vCPU are used", link)
    yield check("quota", "ok", "Fargate's quota is enough")


def vcpus_in_use(seen, class_):
    """Of the whole account, as the alarm FargateQuota sees it."""
    now, dimensions = datetime.now(timezone.utc), {"Service": "Fargate", "Type": "Resource", "Resource": "vCPU", "Class": class_}
    points = seen.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Usage", MetricName="ResourceCount", Dimensions=[{"Name": name, "Value": it} for name, it in dimensions.items()],
        StartTime=now - timedelta(minutes=10), EndTime=now, Period=300, Statistics=["Maximum"])["Datapoints"]
    return max((point["Maximum"] for point in points), default=0)


CHECKS = [cluster_is_there, task_definition_fits, subnets_have_room, runners_reach_github, groups_let_out, quota_is_enough]

"""Can the runner's image be pulled? A check of the doctor: by the registry itself, and by what became of the last tasks."""

import re
from urllib.parse import urlencode

import web
from finding import check

ECR = re.compile(r"(\d+)\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/([^:@]+)(?::([^@]+)|@(.+))?$")
ACCEPT = ", ".join(["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
                    "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"])
OF_ECS = {"X86_64": "amd64", "ARM64": "arm64"}


def image_can_be_pulled(seen):
    what, ecs = "the runner's image can be pulled", seen.client("ecs")
    for family, architecture in seen.families():
        definition = ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
        image = next((it["image"] for it in definition["containerDefinitions"] if it["name"] == seen.container()), None)
        if image is None:
            return  # the task definition's own check says so
        looks = in_ecr(seen, image) if ECR.match(image) else in_registry(seen, image, OF_ECS[architecture])
        yield from (check("image", status, what, f"{image}: {found}", fix) for status, found, fix in looks)
    yield check("image", "ok", what, image)


def in_ecr(seen, image):
    account, region, repository, tag, digest = ECR.match(image).groups()
    ecr = seen.stack.session.client("ecr", region_name=region)
    wanted = {"imageDigest": digest} if digest else {"imageTag": tag or "latest"}
    try:
        found = ecr.describe_images(registryId=account, repositoryName=repository, imageIds=[wanted])["imageDetails"]
    except (ecr.exceptions.ImageNotFoundException, ecr.exceptions.RepositoryNotFoundException):
        found = []
    if not found:
        project = seen.outputs.get("ImageProjectName")
        yield ("fail", "it is not in the repository", f"aws codebuild start-build --project-name {project}" if project
               else f"push it: docker build -f image/Dockerfile -t {image} . && docker push {image}")


def in_registry(seen, image, architecture):
    host, name, reference = parsed(image)
    if seen.parameters.get("RepositoryCredentialsArn"):
        yield "unknown", "its registry wants the credentials of RepositoryCredentialsArn, which are not read here", ""
        return
    scheme = "http" if host.startswith("127.0.0.1:") else "https"
    url, headers = f"{scheme}://{host}/v2/{name}/manifests/{reference}", {"Accept": ACCEPT}
    try:
        answer = web.send("GET", url, headers)
        if answer.status == 401:
            answer = web.send("GET", url, headers | {"Authorization": f"Bearer {token(answer, name)}"})
    except web.Unreachable as error:
        yield "unknown", str(error), ""
        return
    if answer.status == 404:
        yield "fail", "the registry does not have it", "make deploy with a RunnerImage that is there, or empty for GitHub's own"
    elif answer.status in (401, 403):
        yield "fail", "the registry gives it to nobody without credentials", "make deploy with RepositoryCredentialsArn"
    elif answer.status != 200:
        yield "unknown", f"the registry answers {answer.status}", ""
    else:
        platforms = [it.get("platform", {}).get("architecture") for it in answer.json().get("manifests", [])]
        if platforms and architecture not in platforms:
            yield ("fail", f"it is for {', '.join(filter(None, platforms))}, and not for {architecture}",
                   "make deploy with a RunnerImage that is for both, or EnableArm64=false")


def parsed(image):
    """Host, name, and tag or digest; what names no host is Docker Hub's."""
    host, slash, rest = image.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, rest = "registry-1.docker.io", image if slash else f"library/{image}"
    name, at, digest = rest.partition("@")
    name, _, tag = name.partition(":")
    return host, name, digest if at else tag or "latest"


def token(answer, name):
    """What the registry's own challenge leads to, for anybody."""
    challenge = dict(re.findall(r'(\w+)="([^"]*)"', answer.headers.get("WWW-Authenticate", "")))
    realm = challenge.get("realm", "")
    if not re.match(r"https://|http://127\.0\.0\.1:", realm):
        return ""
    query = {"service": challenge.get("service", ""), "scope": f"repository:{name}:pull"}
    told = web.send("GET", f"{realm}?{urlencode(query)}", {}).json()
    return told.get("token") or told.get("access_token") or ""


def tasks_started(seen):
    """ECS keeps stopped tasks for an hour."""
    ecs, cluster = seen.client("ecs"), seen.outputs["ClusterName"]
    arns = ecs.list_tasks(cluster=cluster, desiredStatus="STOPPED")["taskArns"][:100]
    tasks = ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"] if arns else []
    for task in tasks:
        reason = task.get("stoppedReason", "")
        codes = [it.get("exitCode") for it in task.get("containers", []) if it["name"] == seen.container()]
        if "CannotPullContainer" in reason or "ResourceInitializationError" in reason:
            yield check("tasks", "fail", "tasks start", reason[:300], "docs/troubleshooting.md#tasks: the image, its credentials, and "
                        "the way from the subnets to the registry")
            return
        if 7 in codes:
            yield check("tasks", "fail", "GitHub takes the runner's version", "it refused one as too old (exit code 7)",
                        "make deploy with a newer RunnerImage, or an empty one")
            return
    yield check("tasks", "ok", "tasks start", f"{len(tasks)} have stopped within the hour")


CHECKS = [image_can_be_pulled, tasks_started]

"""Each role may make the calls that it needs, and none of the others: everything that the program can ask of AWS."""

import re
import unittest

from policies import Stack, allowed
from test_policies import KEY, MODES, ROLES, ROLES_THERE, TEMPLATE, TOKEN

ADAPTERS = TEMPLATE.parent / "src" / "adapters"
ARN = "arn:aws:{}:eu-west-1:111122223333:{}"


def image_calls(stack):
    """The same for images: pulled by ECS for the execution role, built and pushed by the pipeline."""
    own, docker = {"ImageRole"}, stack.parameters["DockerImage"]
    # RunnerImage may be in any repository, and the daemon's that somebody names.
    mirrored = stack.parameters["EnableDockerClass"] == "true" and docker != stack.template["Parameters"]["DockerImage"]["Default"]
    any_image = {"ExecutionRole"} if stack.holds("HasRunnerImage") or mirrored else set()
    logged_in = own | any_image if stack.holds("DispatcherMinted") else own | {"ExecutionRole"}
    yield "log in to the registry", "ecr:GetAuthorizationToken", "*", {}, logged_in
    pulls = ("BatchCheckLayerAvailability", "GetDownloadUrlForLayer", "BatchGetImage")
    pushes = ("InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload", "PutImage")
    given = ARN.format("ecr", "repository/any")
    created = {"ExecutionRole"} if stack.holds("CreateRepository") else set()
    for action in pulls:
        yield f"{action}, tools", f"ecr:{action}", stack.arn("ImageRepository"), {}, own | any_image
        yield f"{action}, container-minted", f"ecr:{action}", stack.arn("Repository"), {}, created | any_image
        yield f"{action}, RunnerImage", f"ecr:{action}", given, {}, any_image
    cached = ARN.format("ecr", "repository/cache/any")
    yield "a pull-through cache", "ecr:BatchImportUpstreamImage", cached, {}, any_image
    yield ("its registry's credentials", "secretsmanager:GetSecretValue", f"{TOKEN}-registry", {},
           {"ExecutionRole"} if stack.holds("HasRepositoryCredentials") else set())
    for action in pushes:
        yield f"{action}, tools", f"ecr:{action}", stack.arn("ImageRepository"), {}, own
        yield f"{action} elsewhere", f"ecr:{action}", given, {}, set()
        yield f"{action}, container-minted", f"ecr:{action}", stack.arn("Repository"), {}, set()
    yield "its folder", "lambda:GetLayerVersion", stack.arn("ImageSource"), {}, own
    yield "another layer", "lambda:GetLayerVersion", ARN.format("lambda", "layer:another:1"), {}, set()
    yield "weekly build", "codebuild:StartBuild", stack.arn("ImageProject"), {}, {"ImageWeeklyRole"}
    yield "another project", "codebuild:StartBuild", ARN.format("codebuild", "project/another"), {}, set()


def closed_network(stack):
    """What Lambda does for a function in a VPC, and what Secrets Manager does with a customer-managed key."""
    functions = {"WebhookRole", "DispatchRole", "ReconcileRole", "RedeliverRole", "AuthorRole"}
    in_vpc = functions if stack.holds("FunctionsInVpc") else set()
    for action in ("CreateNetworkInterface", "DescribeNetworkInterfaces", "DescribeSubnets", "DeleteNetworkInterface",
                   "AssignPrivateIpAddresses", "UnassignPrivateIpAddresses"):
        yield f"{action} of Lambda", f"ec2:{action}", "*", {}, in_vpc
        source = {"lambda:SourceFunctionArn": ARN.format("lambda", "function:any")}
        yield f"{action} of a function's code", f"ec2:{action}", "*", source, set()
    decrypts = (functions | ({"ExecutionRole"} if stack.holds("TasksReadSecrets") else set())
                if stack.holds("HasSecretKey") else set())
    via = {"kms:ViaService": "secretsmanager.eu-west-1.amazonaws.com"}
    yield "get_secret_value, its key", "kms:Decrypt", KEY, via, decrypts
    yield "the key by itself", "kms:Decrypt", KEY, {}, set()
    yield "the key by way of another service", "kms:Decrypt", KEY, {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}, set()
    yield "another key", "kms:Decrypt", ARN.format("kms", "key/other"), via, set()


def docker(stack):
    """What ECS does with the role that it starts instances with; AWS's own policy gives it the rest."""
    to_instances = {"iam:PassedToService": "ec2.amazonaws.com"}
    own = {"DockerInfrastructureRole"} if stack.holds("DockerClass") else set()
    yield "an instance with its role", "iam:PassRole", stack.arn("DockerInstanceRole"), to_instances, own
    yield "a task with an instance's role", "iam:PassRole", stack.arn("DockerInstanceRole"), {
        "iam:PassedToService": "ecs-tasks.amazonaws.com"}, set()
    yield "an instance with another role", "iam:PassRole", stack.arn("ReconcileRole"), to_instances, set()


def calls(stack):
    """Call -> (action, resource, what AWS knows about it, roles that need it)."""
    cluster, family = stack.parameters["ClusterName"], stack.parameters["TaskDefinitionFamily"]
    here = {"ecs:cluster": stack.arn("Cluster")}
    task = ARN.format("ecs", f"task/{cluster}/0123")
    minted = stack.holds("DispatcherMinted")
    classes = stack.holds("HasClasses")
    pool = {"ReconcileRole"} if stack.holds("WarmPool") or classes else set()
    # Classes name task definitions of their own, and may have pools.
    of_classes = {"DispatchRole", "ReconcileRole"} if classes else set()
    arm64 = of_classes | ({"DispatchRole"} if stack.holds("Arm64") else set())
    to_tasks = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
    both = {"DispatchRole", "ReconcileRole"}
    ask = both | {"AuthorRole"}
    know = ask | {"RedeliverRole"}
    asked = ask if stack.creates("AuthorQueue") else set()
    run = ARN.format("ecs", f"task-definition/{family}")
    bus = ARN.format("events", f"event-bus/{stack.parameters['EventBusName']}")
    yield "put_events", "events:PutEvents", bus, {}, {"WebhookRole"}
    yield "put_events elsewhere", "events:PutEvents", ARN.format("events", "event-bus/default"), {}, set()
    given = stack.holds("HasWebhookSecret")
    yield ("get_secret_value webhook", "secretsmanager:GetSecretValue", stack.arn("WebhookSecret"), {},
           set() if given else {"WebhookRole"})
    own = stack.holds("CreateGitHubSecret")
    yield ("get_secret_value GitHub", "secretsmanager:GetSecretValue", TOKEN, {},
           know if minted and not own else set())
    yield ("get_secret_value GitHub, its own", "secretsmanager:GetSecretValue", stack.arn("GitHubSecret"), {},
           know if own else set())
    yield ("get_secret_value of containers", "secretsmanager:GetSecretValue", stack.arn("AccessTokenSecret"), {},
           {"ExecutionRole"} if stack.holds("CreateAccessTokenSecret") else set())
    yield "run_task", "ecs:RunTask", f"{run}:7", here, {"DispatchRole"} | pool
    yield "run_task ARM64", "ecs:RunTask", f"{run}-arm64:7", here, arm64
    yield "run_task Docker", "ecs:RunTask", f"{run}-docker:7", here, of_classes | ({"DispatchRole"} if stack.holds("DockerClass") else set())
    yield "run_task of another family", "ecs:RunTask", ARN.format("ecs", "task-definition/other:7"), here, set()
    yield "run_task of a class", "ecs:RunTask", f"{run}-gpu:7", here, of_classes
    yield "run_task elsewhere", "ecs:RunTask", f"{run}:7", {"ecs:cluster": "other"}, set()
    yield "run_task, its tags", "ecs:TagResource", task, {"ecs:CreateAction": "RunTask"}, both
    yield "tag_resource", "ecs:TagResource", task, {}, {"ReconcileRole"}
    for role in ("TaskRole", "ExecutionRole"):
        yield (f"run_task with {role}", "iam:PassRole", stack.arn(role), to_tasks,
               {"DispatchRole"} | pool if stack.creates(role) else set())
    for role in ROLES_THERE:
        yield f"run_task with {role}", "iam:PassRole", role, to_tasks, set() if stack.creates("TaskRole") else {"DispatchRole"} | pool
    yield "run_task with another role", "iam:PassRole", stack.arn("ReconcileRole"), to_tasks, set()
    yield "a function with a task's role", "iam:PassRole", stack.arn("TaskRole"), {
        "iam:PassedToService": "lambda.amazonaws.com"}, set()
    yield "list_tasks", "ecs:ListTasks", "*", here, ask
    yield "list_tasks elsewhere", "ecs:ListTasks", "*", {"ecs:cluster": "other"}, set()
    yield "describe_tasks", "ecs:DescribeTasks", task, {}, ask
    yield "describe_tasks elsewhere", "ecs:DescribeTasks", ARN.format("ecs", "task/other/0123"), {}, set()
    yield "describe_clusters", "ecs:DescribeClusters", stack.arn("Cluster"), {}, {"DispatchRole"}
    yield "stop_task", "ecs:StopTask", task, {}, {"ReconcileRole"}
    yield "stop_task elsewhere", "ecs:StopTask", ARN.format("ecs", "task/other/0123"), {}, set()
    for queue, role in (("JobQueue", "DispatchRole"), ("LifecycleQueue", "ReconcileRole"), ("AuthorQueue", "AuthorRole")):
        # The event source mapping polls with the function's own role.
        for action in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes"):
            yield f"{action} of Lambda's poller, {queue}", f"sqs:{action}", stack.arn(queue), {}, {role}
        yield (f"change_message_visibility, {queue}", "sqs:ChangeMessageVisibility", stack.arn(queue), {}, {role})
    yield "send_message, a replacement", "sqs:SendMessage", stack.arn("JobQueue"), {}, both
    yield ("send_message, a rejection", "sqs:SendMessage", stack.arn("JobDeadLetterQueue"), {},
           both if stack.creates("JobDeadLetterQueue") else set())
    yield "send_message, an interruption", "sqs:SendMessage", stack.arn("AuthorQueue"), {}, asked
    yield "send_message, an event", "sqs:SendMessage", stack.arn("LifecycleQueue"), {}, set()
    in_s3 = stack.parameters["RunnerClasses"].startswith("s3://")
    yield ("get_object, the classes", "s3:GetObject", "arn:aws:s3:::acme-settings/runners/classes.json", {},
           {"WebhookRole", *both} if in_s3 else set())
    yield "get_object beside them", "s3:GetObject", "arn:aws:s3:::acme-settings/runners/other.json", {}, set()
    logs = {"WebhookLogGroup": {"WebhookRole"}, "DispatchLogGroup": {"DispatchRole"}, "ReconcileLogGroup": {"ReconcileRole", "RedeliverRole"},
            "AuthorLogGroup": {"AuthorRole"}, "RunnerLogGroup": {"ExecutionRole"}, "ImageLogGroup": {"ImageRole"}}
    for group, roles in logs.items():
        for action in ("CreateLogStream", "PutLogEvents"):
            yield f"{action}, {group}", f"logs:{action}", stack.arn(group), {}, roles
    yield from image_calls(stack)
    yield from closed_network(stack)
    yield from docker(stack)


class Roles(unittest.TestCase):
    def test_each_role_and_call(self):
        for mode, parameters in MODES.items():
            stack = Stack(TEMPLATE, **parameters)
            for call, action, resource, context, needed_by in calls(stack):
                for role in filter(stack.creates, ROLES):
                    with self.subTest(mode=mode, call=call, role=role):
                        verdict = allowed(stack.of_role(role), [], action, resource, context)
                        self.assertEqual(verdict, role in needed_by)
                self.assertLessEqual(needed_by, set(ROLES))

    def test_the_list_has_every_call_of_the_adapters(self):
        made = set()
        for source in ADAPTERS.glob("*.rs"):
            made |= set(re.findall(r"\bclient(?:\(\))?\s*\.(\w+)\(\)", source.read_text(encoding="utf-8")))
        listed = {re.match(r"\w+", call)[0] for call, *_ in calls(Stack(TEMPLATE))}
        self.assertIn("run_task", made)
        self.assertEqual(made - listed, set())

    def test_no_role_may_do_what_is_not_in_the_list(self):
        for mode, parameters in MODES.items():
            stack = Stack(TEMPLATE, **parameters)
            listed = {action for _, action, *_ in calls(stack)}
            for role in ROLES:
                may = {action for statement in stack.of_role(role) for action in (
                    statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]])}
                with self.subTest(mode=mode, role=role):
                    self.assertEqual(may - listed, set())


if __name__ == "__main__":
    unittest.main()

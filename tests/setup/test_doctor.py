"""make doctor on a local AWS: each fault is planted, exactly its check tells, and what its fix says makes it pass."""

import contextlib
import io
import json
import os
import tempfile
import threading
import time
import unittest
import zipfile
from email import message_from_string
from pathlib import Path
from unittest import mock

from botocore.exceptions import ClientError

from aws_command import carry_out
from registry import Registry
from world import BINARIES, CREDENTIALS, KEY, ORGANIZATION, STACK, GitHub, LocalAws, free_port

import bundle
import deep
import doctor
import finding
import flow_checks
import github_checks
import image_checks
import left_out
import role_checks
import runner_checks
import web
from finding import Seen
from local_aws import zipped_bootstrap
from stack import Stack, outputs, parameters

left_out.install()


class Doctor(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.aws = cls.enterClassContext(LocalAws())
        environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": cls.aws.endpoint, "AWS_CONFIG_FILE": os.devnull,
                       "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        cls.enterClassContext(mock.patch.dict(os.environ, environment))
        cls.github = GitHub(cls.aws.endpoint, free_port(), "--app-private-key", str(KEY), "--app-id", "7",
                            "--installation", f"4={ORGANIZATION}")
        cls.addClassCleanup(cls.github.close)
        cls.registry = Registry()
        cls.addClassCleanup(cls.registry.close)
        cls.topic = cls.aws.client("sns").create_topic(Name="page")["TopicArn"]
        cls.subscribe()
        cls.aws.deploy({"Organization": ORGANIZATION, "GitHubApiUrl": cls.github.url, "AlarmTopicArn": cls.topic,
                        "RunnerImage": f"{cls.registry.host}/actions/actions-runner:latest"})
        cls.put(json.dumps({"app_id": 7, "private_key": KEY.read_text()}))
        cls.stack = Stack(STACK)
        cls.found = cls.stack.describe()
        cls.outputs = outputs(cls.found)
        cls.before = cls.wrong()

    @classmethod
    def subscribe(cls):
        """A queue: the only kind of subscriber that need not confirm."""
        queue = cls.aws.client("sqs").create_queue(QueueName="told")["QueueUrl"]
        arn = cls.aws.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return cls.aws.client("sns").subscribe(TopicArn=cls.topic, Protocol="sqs", Endpoint=arn)["SubscriptionArn"]

    @classmethod
    def put(cls, text):
        cls.aws.client("secretsmanager").put_secret_value(SecretId=f"{STACK}/github", SecretString=text)

    @classmethod
    def wrong(cls):
        """Check -> what it found, of those that are not ok."""
        report = doctor.look(STACK)
        return {f"{found['id']}: {found['status']}": found for found in report if found["status"] != "ok"}

    def tells(self, check, fix):
        """Exactly this check is new."""
        now = self.wrong()
        self.assertEqual({it: now[it] for it in set(now) - set(self.before)}, {check: now.get(check)})
        self.assertIn(fix, now[check]["fix"])
        return now[check]

    def mended(self, by=None):
        """It passes, once the fix that was told is carried out as it stands."""
        if by:
            carry_out(self.aws.client, by["fix"])
        now = self.wrong()
        self.assertEqual({it: now[it] for it in set(now) - set(self.before)}, {})

    def test_a_stack_that_was_just_deployed(self):
        # What a stack without jobs has, and what the local AWS does not know.
        expected = {"deliveries: warn", "hook: fail", "quota_is_enough: unknown", "wanted: warn"}
        self.assertLessEqual(set(self.before), expected, self.before)
        self.assertIn("hook: fail", self.before, "the App's webhook leads elsewhere, since nobody set it")

    def test_a_stopped_function(self):
        functions, name = self.aws.client("lambda"), self.outputs["DispatchFunctionName"]
        functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        self.tells("functions: fail", "make resume")
        functions.delete_function_concurrency(FunctionName=name)
        self.mended()

    def test_a_queue_that_leads_nowhere(self):
        functions = self.aws.client("lambda")
        mapping = functions.list_event_source_mappings(FunctionName=self.outputs["DispatchFunctionName"])[
            "EventSourceMappings"][0]["UUID"]
        functions.update_event_source_mapping(UUID=mapping, Enabled=False)
        found = self.tells("mappings: fail", f"aws lambda update-event-source-mapping --uuid {mapping} --enabled")
        self.assertIn("Disabl", found["found"])
        self.mended(by=found)
        functions.delete_event_source_mapping(UUID=mapping)
        self.mended(by=self.tells("mappings: fail", "aws lambda create-event-source-mapping --function-name"))

    def test_an_author_that_has_nothing_to_do(self):
        functions = self.aws.client("lambda")
        mapping = functions.list_event_source_mappings(FunctionName=self.outputs["AuthorFunctionName"])["EventSourceMappings"][0]["UUID"]
        functions.update_event_source_mapping(UUID=mapping, Enabled=False)
        given = parameters(self.found)
        for told, status in (({"RerunInterrupted": "0", "CheckRuns": "false"}, "ok"), ({"RerunInterrupted": "0", "CheckRuns": "true"}, "fail"),
                             ({"RerunInterrupted": "1", "CheckRuns": "false"}, "fail")):
            with self.subTest(told=told):
                said = doctor.one(flow_checks.messages_reach_functions, Seen(self.stack, self.outputs, given | told))[0]
                self.assertEqual(said["status"], status, said)
        functions.update_event_source_mapping(UUID=mapping, Enabled=True)
        self.mended()

    def test_what_is_not_the_stack_s_is_left_alone(self):
        events, bus = self.aws.client("events"), self.outputs["EventBusName"]
        somebodys = [{"Name": "audit", "EventBusName": bus, "EventPattern": '{"source": ["github.com"]}'},
                     {"Name": f"{STACK}-nightly", "ScheduleExpression": "rate(1 day)"}]
        for rule in somebodys:
            events.put_rule(**rule)
            self.addCleanup(events.delete_rule, Name=rule["Name"], EventBusName=rule.get("EventBusName", "default"))
        self.mended()
        # A stack that was given its queue has no rule for it.
        seen = Seen(self.stack, self.outputs, {"CreateJobQueue": "false", "CreateEventBus": "false"})
        rules = seen.resources("AWS::Events::Rule")
        rules.pop("JobQueuedRule")
        with mock.patch.object(seen, "resources", lambda _: rules):
            self.assertEqual([it["status"] for it in doctor.one(flow_checks.events_reach_queues, seen)], ["ok"])
        self.assertEqual(doctor.one(flow_checks.only_the_webhook_may_put, seen), [], "whose bus it is, says who may put on it")

    def test_a_rule_that_is_off(self):
        events, bus, name = self.aws.client("events"), self.outputs["EventBusName"], "trigger-jit-self-hosted-runner"
        events.disable_rule(Name=name, EventBusName=bus)
        self.mended(by=self.tells("rules: fail", f"aws events enable-rule --name {name} --event-bus-name {bus}"))

    def test_rules_that_lead_nowhere(self):
        events, bus = self.aws.client("events"), self.outputs["EventBusName"]
        rules = [(bus, rule) for rule in events.list_rules(EventBusName=bus)["Rules"]]
        rules += [("default", rule) for rule in events.list_rules(NamePrefix=f"{STACK}-")["Rules"]]
        self.assertEqual(len(rules), 5)
        for on, rule in rules:
            with self.subTest(rule=rule["Name"]):
                targets = events.list_targets_by_rule(Rule=rule["Name"], EventBusName=on)["Targets"]
                events.remove_targets(Rule=rule["Name"], EventBusName=on, Ids=[it["Id"] for it in targets])
                if "InputTransformer" in targets[0]:
                    self.tells("rules: fail", "make repair")
                else:
                    self.mended(by=self.tells("rules: fail", f"aws events put-targets --rule {rule['Name']} --event-bus-name {on}"))
                    events.remove_targets(Rule=rule["Name"], EventBusName=on, Ids=["queue"])
                events.put_targets(Rule=rule["Name"], EventBusName=on, Targets=targets)

    def test_a_bus_that_anybody_may_put_on(self):
        events, bus = Seen(self.stack, self.outputs, {}).client("events"), self.outputs["EventBusName"]
        policy = events.describe_event_bus(Name=bus)["Policy"]
        told = json.loads(policy)
        for wanted, kept in (("bus-policy: fail", "Deny"), ("bus-policy: warn", "Allow")):
            statements = [it for it in told["Statement"] if it["Effect"] == kept]
            events.put_permission(EventBusName=bus, Policy=json.dumps(told | {"Statement": statements}))
            self.tells(wanted, "make repair")
        events.put_permission(EventBusName=bus, Policy=policy)
        self.mended()

    def test_code_of_another_release(self):
        functions = self.aws.client("lambda")
        for output in ("ReconcileFunctionName", "RedeliverFunctionName"):
            with self.subTest(output=output):
                functions.update_function_code(FunctionName=self.outputs[output], ZipFile=zipped_bootstrap(BINARIES / "dispatch"))
                now = self.wrong()
                # Reconcile cannot be asked any more, either.
                found = now["code: fail"]
                self.assertIn("has other code than release built here", found["found"])
                with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
                    Path("dist").mkdir()
                    Path("dist/reconcile-x86_64.zip").write_bytes(zipped_bootstrap(BINARIES / "reconcile"))
                    self.mended(by=found)

    def test_an_image_that_cannot_be_pulled(self):
        registry = self.registry
        for planted, said in (({"platforms": []}, "does not have it"), ({"platforms": ["arm64"]}, "and not for amd64"),
                              ({"open": False}, "gives it to nobody")):
            with self.subTest(planted=planted), mock.patch.multiple(registry, **planted):
                found = self.tells("image: fail", "make deploy with")
                self.assertIn(said, found["found"])
        self.mended()

    def test_an_image_in_ecr(self):
        ecr, image = self.aws.client("ecr"), "000000000000.dkr.ecr.us-east-1.amazonaws.com/runner:1"
        seen = Seen(self.stack, self.outputs, {})
        (status, _, fix), = image_checks.in_ecr(seen, image)
        self.assertEqual((status, fix.split(":")[0]), ("fail", "push it"))
        (_, _, fix), = image_checks.in_ecr(Seen(self.stack, self.outputs | {"ImageProjectName": "p"}, {}), image)
        self.assertEqual(fix, "aws codebuild start-build --project-name p")
        ecr.create_repository(repositoryName="runner")
        self.assertEqual(len(list(image_checks.in_ecr(seen, image))), 1)
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": []}
        ecr.put_image(repositoryName="runner", imageTag="1", imageManifest=json.dumps(manifest))
        self.assertEqual(list(image_checks.in_ecr(seen, image)), [])

    def test_where_an_image_is(self):
        table = {"ghcr.io/a/b:1": ("ghcr.io", "a/b", "1"), "ghcr.io/a/b": ("ghcr.io", "a/b", "latest"),
                 "localhost:5000/b@sha256:0": ("localhost:5000", "b", "sha256:0"),
                 "a/b:1": ("registry-1.docker.io", "a/b", "1"), "b": ("registry-1.docker.io", "library/b", "latest")}
        for image, parts in table.items():
            self.assertEqual(image_checks.parsed(image), parts)

    def test_a_role_that_may_not(self):
        iam = self.aws.client("iam")
        for function, action in (("dispatch", "ecs:RunTask"), ("webhook", "events:PutEvents"), ("reconcile", "ecs:StopTask"),
                                 ("dispatch", "iam:PassRole"), ("reconcile", "secretsmanager:GetSecretValue"),
                                 ("reconcile", "ecs:ListTasks"), ("dispatch", "sqs:ChangeMessageVisibility"),
                                 ("author", "sqs:ReceiveMessage"), ("author", "ecs:DescribeTasks")):
            with self.subTest(action=action):
                role = Seen(self.stack, self.outputs, {}).function(function)["Role"].rsplit("/", 1)[-1]
                policy = iam.get_role_policy(RoleName=role, PolicyName=function)["PolicyDocument"]

                def without(statement):
                    actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
                    return statement | {"Action": [it for it in actions if it != action] or ["none:None"]}

                changed = policy | {"Statement": [without(it) for it in policy["Statement"]]}
                iam.put_role_policy(RoleName=role, PolicyName=function, PolicyDocument=json.dumps(changed))
                for found in doctor.one(role_checks.roles_may, Seen(self.stack, self.outputs, {})):
                    self.assertEqual(found["status"], "fail")
                    self.assertIn(action, found["found"])
                    self.assertTrue(found["fix"].endswith(f"{role}: make repair"), found["fix"])
                iam.put_role_policy(RoleName=role, PolicyName=function, PolicyDocument=json.dumps(policy))
        self.mended()

    def test_alarms_that_nobody_hears(self):
        sns, cloudwatch = self.aws.client("sns"), self.aws.client("cloudwatch")
        for subscription in sns.list_subscriptions_by_topic(TopicArn=self.topic)["Subscriptions"]:
            sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
        self.tells("alarms: warn", f"aws sns subscribe --topic-arn {self.topic}")
        self.subscribe()
        self.mended()
        name = cloudwatch.describe_alarms(AlarmNamePrefix=f"{STACK}-")["MetricAlarms"][0]["AlarmName"]
        cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="planted")
        found = self.tells("alarms: warn", "docs/operate.md#")
        self.assertEqual(found["found"], name)
        cloudwatch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="mended")
        self.mended()
        alarm = {"AlarmName": "x", "StateValue": "OK", "AlarmActions": []}
        for alarms, status, found, fix in (([], "fail", "none of this stack", "make repair"),
                                           ([alarm], "warn", "they tell nobody", "make deploy with AlarmTopicArn"),
                                           ([alarm | {"ActionsEnabled": False}], "warn", "switched off: x", "aws cloudwatch enable-alarm-actions")):
            with self.subTest(found=found):
                seen = mock.Mock()
                seen.client.return_value = mock.Mock(**{"describe_alarms.return_value": {"MetricAlarms": alarms}})
                said = doctor.one(flow_checks.alarms_tell_somebody, seen)[0]
                self.assertEqual((said["status"], said["found"]), (status, found))
                self.assertTrue(said["fix"].startswith(fix), said["fix"])

    def test_dead_letters(self):
        sqs, url = self.aws.client("sqs"), self.outputs["JobDeadLetterQueueUrl"]
        for reason in ("too large", "too large", None):
            attributes = {"reason": {"DataType": "String", "StringValue": reason}} if reason else {}
            sqs.send_message(QueueUrl=url, MessageBody="{}", MessageAttributes=attributes)
        found = self.tells("dead-letters: warn", "aws sqs start-message-move-task --source-arn arn:aws:sqs:")
        self.assertIn("2 x too large; 1 x no reason given", found["found"])
        self.assertRegex(found["fix"], r"--source-arn \S+:(\S+)-dead-letter --destination-arn \S+:\1$")
        sqs.purge_queue(QueueUrl=url)
        self.mended()

    def test_a_task_definition_that_does_not_fit(self):
        ecs = self.aws.client("ecs")
        kept = ecs.describe_task_definition(taskDefinition=self.outputs["TaskDefinitionArn"])["taskDefinition"]
        fields = ("family", "networkMode", "requiresCompatibilities", "cpu", "memory", "executionRoleArn", "taskRoleArn",
                  "containerDefinitions", "runtimePlatform")
        again = {field: kept[field] for field in fields if kept.get(field)}
        table = [({"containerDefinitions": [{**kept["containerDefinitions"][0], "name": "another"}]}, "no container runner, but another"),
                 ({"runtimePlatform": {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"}}, "is for ARM64"),
                 ({"cpu": "1024", "memory": "16384"}, "1024 CPU units with 16384 MiB")]
        for fault, said in table:
            with self.subTest(said=said):
                try:
                    ecs.register_task_definition(**again | fault)
                except ClientError as error:  # the local AWS refuses some sizes itself
                    self.assertIn("cpu", str(error).lower())
                    self.assertIn(said.split(" MiB")[0], runner_checks.flaw(kept | fault, "X86_64", "runner"))
                    continue
                found = self.wrong()["task-definition: fail"]
                self.assertIn(said, found["found"])
                carry_out(self.aws.client, found["fix"])
                # A family is its newest active revision; the local AWS's is its newest.
                ecs.register_task_definition(**again)
                self.mended()

    def test_a_cluster_that_is_none_or_lacks_its_providers(self):
        ecs, name = self.aws.client("ecs"), self.outputs["ClusterName"]
        ecs.put_cluster_capacity_providers(cluster=name, capacityProviders=[], defaultCapacityProviderStrategy=[])
        self.mended(by=self.tells("cluster: fail", f"aws ecs put-cluster-capacity-providers --cluster {name}"))
        strategy = [{"capacityProvider": "FARGATE_SPOT", "weight": 2, "base": 0}]
        ecs.put_cluster_capacity_providers(cluster=name, capacityProviders=["FARGATE_SPOT"], defaultCapacityProviderStrategy=strategy)
        self.mended(by=self.tells("cluster: fail", f"aws ecs put-cluster-capacity-providers --cluster {name}"))
        now, = ecs.describe_clusters(clusters=[name])["clusters"]
        self.assertEqual((set(now["capacityProviders"]), now["defaultCapacityProviderStrategy"]), ({"FARGATE", "FARGATE_SPOT"}, strategy),
                         "what it had, it keeps")
        gone = Seen(self.stack, self.outputs | {"ClusterName": "another"}, {})
        said = doctor.one(runner_checks.cluster_is_there, gone)[0]
        self.assertEqual((said["status"], said["found"]), ("fail", "another: none"))
        carry_out(self.aws.client, said["fix"])
        self.addCleanup(ecs.delete_cluster, cluster="another")
        self.assertEqual([it["status"] for it in doctor.one(runner_checks.cluster_is_there, gone)], ["ok"])

    def test_subnets_that_are_not_enough(self):
        ec2, network = self.aws.client("ec2"), doctor.Seen(self.stack, self.outputs, {}).variables()
        ids = network["SUBNET_IDS"].split(",")
        known = ec2.describe_subnets(SubnetIds=ids)["Subnets"]
        missing = ClientError({"Error": {"Code": "InvalidSubnetID.NotFound", "Message": "x"}}, "DescribeSubnets")
        table = [(known, "ok", "", ""), (known[:1], "warn", "one", "SubnetIds in several zones"),
                 ([known[0] | {"AvailableIpAddressCount": 3}, *known[1:]], "warn", f"{known[0]['SubnetId']}: 3", "larger SubnetIds"),
                 (missing, "fail", "NotFound", "SubnetIds that exist")]
        for answer, status, found, fix in table:
            with self.subTest(status=status, found=found):
                fault = {"side_effect": answer} if answer is missing else {"return_value": {"Subnets": answer}}
                seen = mock.Mock(**{"variables.return_value": network})
                seen.client.return_value = mock.Mock(**{f"describe_subnets.{what}": it for what, it in fault.items()})
                said, = doctor.one(runner_checks.subnets_have_room, seen)
                self.assertEqual(said["status"], status, said)
                self.assertIn(found, said["found"])
                self.assertIn(fix, said["fix"])

    def test_an_internet_gateway_without_public_addresses(self):
        functions, name = self.aws.client("lambda"), self.outputs["DispatchFunctionName"]
        variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables | {"ASSIGN_PUBLIC_IP": "DISABLED"}})
        found = self.tells("way-out: fail", "make deploy with AssignPublicIp=ENABLED")
        self.assertIn("runners have no public address", found["found"])
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables | {"ASSIGN_PUBLIC_IP": "ENABLED"}})
        self.mended()
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})

    def test_a_group_that_lets_somebody_in(self):
        ec2 = self.aws.client("ec2")
        group = doctor.Seen(self.stack, self.outputs, {}).variables()["SECURITY_GROUP_IDS"]
        rule = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rule)
        self.tells("security-groups: warn", "remove them")
        ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=rule)
        self.mended()

    def test_a_rule_that_is_gone(self):
        events, bus, name = self.aws.client("events"), self.outputs["EventBusName"], "trigger-jit-self-hosted-runner"
        rule = events.describe_rule(Name=name, EventBusName=bus)
        targets = events.list_targets_by_rule(Rule=name, EventBusName=bus)["Targets"]
        events.remove_targets(Rule=name, EventBusName=bus, Ids=[it["Id"] for it in targets])
        events.delete_rule(Name=name, EventBusName=bus)
        found = self.tells("rules: fail", "make repair")
        self.assertIn(f"there is no rule {name} on the bus {bus}", found["found"])
        events.put_rule(Name=name, EventBusName=bus, EventPattern=rule["EventPattern"])
        events.put_targets(Rule=name, EventBusName=bus, Targets=targets)
        self.mended()

    def test_a_function_that_failed_and_a_release_that_does_not_say(self):
        for answer, looks, status, found, fix in (
                ({"State": "Failed"}, flow_checks.functions_run, "fail", "Failed, last update Successful", "make deploy"),
                ({"LastUpdateStatus": "Failed"}, flow_checks.functions_run, "fail", "Active, last update Failed", "make deploy"),
                ({}, flow_checks.code_is_of_one_release, "warn", "does not say what was deployed", "make deploy")):
            with self.subTest(answer=answer):
                seen = Seen(self.stack, {it: self.outputs[it] for it in self.outputs if it != "Release"}, {})
                real = seen.function
                with mock.patch.object(seen, "function", lambda name, real=real, more=answer: real(name) | more):
                    said = doctor.one(looks, seen)[0]
                self.assertEqual(said["status"], status, said)
                self.assertIn(found, said["found"])
                self.assertEqual(said["fix"], fix)

    def test_a_stack_with_fewer_functions_is_looked_at_as_far_as_it_goes(self):
        """A release before had no author, or no redeliver; dispatch may be all that there is."""
        for left_out in ({"AuthorFunctionName", "AuthorQueueUrl"}, {"RedeliverFunctionName"}, set(finding.FUNCTIONS.values()) - {"DispatchFunctionName"}):
            seen = Seen(self.stack, {name: it for name, it in self.outputs.items() if name not in left_out}, {})
            for looks in (flow_checks.functions_run, flow_checks.code_is_of_one_release, flow_checks.messages_reach_functions,
                          role_checks.roles_may):
                with self.subTest(left_out=left_out, looks=looks.__name__):
                    self.assertEqual([it["status"] for it in doctor.one(looks, seen)], ["ok"])

    def test_no_way_out(self):
        ec2 = self.aws.client("ec2")
        subnet = doctor.Seen(self.stack, self.outputs, {}).variables()["SUBNET_IDS"].split(",")[0]
        table = ec2.describe_route_tables(Filters=[{"Name": "association.subnet-id", "Values": [subnet]}])["RouteTables"][0]
        route = next(route for route in table["Routes"] if route.get("DestinationCidrBlock") == "0.0.0.0/0")
        ec2.delete_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0")
        found = self.tells("way-out: fail", "a NAT gateway or an internet gateway")
        self.assertIn("has no route to 0.0.0.0/0", found["found"])
        ec2.create_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=route["GatewayId"])
        self.mended()

    def test_a_group_that_lets_nothing_out(self):
        ec2 = self.aws.client("ec2")
        group = doctor.Seen(self.stack, self.outputs, {}).variables()["SECURITY_GROUP_IDS"]
        rules = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissionsEgress"]
        ec2.revoke_security_group_egress(GroupId=group, IpPermissions=rules)
        self.mended(by=self.tells("security-groups: fail", f"aws ec2 authorize-security-group-egress --group-id {group}"))

    def test_what_the_functions_see(self):
        self.put("{}")
        now = self.wrong()
        self.assertIn("credentials: fail", now)
        self.assertIn("no App yet", now["credentials: fail"]["found"])
        self.put(json.dumps({"app_id": 7, "private_key": KEY.read_text()}))
        self.mended()

    def test_what_we_may_not_look_at_is_unknown(self):
        def denied(seen):
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "DescribeClusters")
            yield  # a check yields

        with mock.patch.object(doctor, "CHECKS", [denied]), mock.patch.object(doctor, "functions_own", lambda seen: []):
            found = doctor.examine(self.stack, self.outputs, parameters(self.found))
        self.assertEqual([check["status"] for check in found], ["unknown"])
        self.assertIn("DescribeClusters is not allowed to you", found[0]["found"])
        error = ClientError({"Error": {"Code": "AccessDenied", "Message": "User: x is not authorized to perform: ecs:ListTasks on"}}, "ListTasks")
        self.assertEqual(doctor.denied_action(error), "ecs:ListTasks")

    def test_what_the_local_aws_does_not_know(self):
        """Each check on the answers that AWS documents: what it says, by what it is told."""
        def metric(age):
            return {"cloudwatch": {"get_metric_statistics": {"Datapoints": [{"Maximum": age}]}}}

        def quota(vcpus, used=0):
            return metric(used) | {"service-quotas": {"get_service_quota": {"Quota": {"Value": vcpus}}}}

        def stopped(reason, code):
            task = {"stoppedReason": reason, "containers": [{"name": "runner", "exitCode": code}]}
            return {"ecs": {"list_tasks": {"taskArns": ["arn"]}, "describe_tasks": {"tasks": [task]}}}

        table = [
            (flow_checks.messages_do_not_wait, metric(1200), "warn", "waits for 20 min", "docs/operate.md#jobswait"),
            (flow_checks.messages_do_not_wait, metric(60), "ok", "", ""),
            (runner_checks.quota_is_enough, quota(0.5), "fail", "0.5 vCPU, and a runner takes 1", "servicequotas"),
            (runner_checks.quota_is_enough, quota(14, used=12), "warn", "12 of 14 vCPU", "servicequotas"),
            (runner_checks.quota_is_enough, quota(100, used=12), "ok", "", ""),
            (image_checks.tasks_started, stopped("CannotPullContainerError: x", None), "fail", "CannotPull", "docs/troubleshooting.md"),
            (image_checks.tasks_started, stopped("", 7), "fail", "exit code 7", "RunnerImage"),
            (image_checks.tasks_started, stopped("Essential container in task exited", 0), "ok", "1 have stopped", ""),
        ]
        for looks, answers, status, found, fix in table:
            with self.subTest(looks=looks.__name__, status=status):
                seen = mock.Mock(outputs=self.outputs, parameters={})
                seen.container.return_value = "runner"
                seen.client.side_effect = lambda service, answers=answers: mock.Mock(
                    **{f"{call}.return_value": answer for call, answer in answers[service].items()})
                seen.stack.session.region_name = "eu-west-1"
                said = doctor.one(looks, seen)[0]
                self.assertEqual(said["status"], status, said)
                self.assertIn(found, said["found"])
                self.assertIn(fix, said["fix"])

    def github_says(self, looks, answers, held="ghp_0", **given):
        """What a check says, where GitHub answers each path so: (status, headers, body)."""
        def send(method, url, headers, body=None, timeout=30):
            self.asked.append(headers.get("Authorization"))
            status, told, answer = answers["/" + url.split("/", 3)[3]]
            headers = message_from_string("".join(f"{name}: {value}\n" for name, value in told.items()))
            return web.Answer(status, headers, json.dumps(answer).encode())

        self.asked = []
        seen = mock.Mock(outputs=self.outputs, parameters={"Organization": "acme"} | given)
        seen.credentials.return_value = [held]
        with mock.patch.object(web, "send", send):
            return doctor.one(looks, seen)[0]

    def test_an_organisation_that_is_none_or_is_spelled_otherwise(self):
        for answer, given, status, found, fix in (
                ((200, {}, {"login": "acme", "type": "Organization"}), {}, "ok", "acme", ""),
                ((200, {}, {"login": "Acme", "type": "Organization"}), {}, "warn", "Acme", "Organization=Acme"),
                ((404, {}, {}), {}, "fail", "knows no acme", "make deploy"),
                ((200, {}, {"login": "acme", "type": "User"}), {}, "fail", "is a person", "RunnerScope=repo"),
                ((200, {}, {"login": "acme", "type": "User"}), {"RunnerScope": "repo"}, "ok", "acme", ""),
                ((500, {}, {}), {}, "unknown", "500", "")):
            with self.subTest(answer=answer, given=given):
                said = self.github_says(github_checks.organization_is_there, {"/users/acme": answer}, **given)
                self.assertEqual(said["status"], status, said)
                self.assertIn(found, said["found"])
                self.assertIn(fix, said["fix"])

    def test_a_token(self):
        ends, good = {"GitHub-Authentication-Token-Expiration": "2020-01-01 10:00:00 UTC"}, {"X-OAuth-Scopes": "repo, admin:org"}
        sso = {"X-GitHub-SSO": "required; url=https://github.com/orgs/acme/sso?authorization_request=A"}
        late = {"GitHub-Authentication-Token-Expiration": "2099-01-01 10:00:00 -0700"}
        for headers, there, given, status, found, fix in (
                (good | late, (200, {}, {}), {}, "ok", "until 2099-01-01", ""),
                ({}, (200, {}, {}), {}, "ok", "does not say", ""),
                (good | ends, (200, {}, {}), {}, "warn", "expires on 2020-01-01", "NEW_APP=1"),
                ({"X-OAuth-Scopes": "repo"}, (200, {}, {}), {}, "fail", "without admin:org", "admin:org"),
                ({"X-OAuth-Scopes": "repo"}, (200, {}, {}), {"RunnerScope": "repo"}, "ok", "", ""),
                ({"X-OAuth-Scopes": ""}, (200, {}, {}), {"RunnerScope": "enterprise/x"}, "fail", "are none", "manage_runners:enterprise"),
                (good, (403, sso, {}), {}, "fail", "single sign-on", "https://github.com/orgs/acme/sso")):
            with self.subTest(headers=headers, there=there, given=given):
                answers = {"/rate_limit": (200, headers, {}), "/orgs/acme": there}
                said = self.github_says(github_checks.token_is_good, answers, **given)
                self.assertEqual(said["status"], status, said)
                self.assertIn(found, said["found"])
                self.assertIn(fix, said["fix"])
                self.assertNotIn("ghp_0", json.dumps(said))
        said = self.github_says(github_checks.token_is_good, {"/rate_limit": (401, {}, {"message": "Bad credentials"})})
        self.assertIn("expired, or was revoked", said["found"])
        said = self.github_says(github_checks.token_is_good, {}, held='{"app_id": 7}')
        self.assertEqual((said["status"], self.asked), ("ok", []), "an App's key is shown to nobody")

    def test_several_secrets_with_credentials(self):
        arn = self.outputs["GitHubSecretArn"]
        seen = Seen(self.stack, self.outputs | {"GitHubSecretArn": f"{arn},{arn}"}, parameters(self.found))
        for looks in (role_checks.roles_may, github_checks.token_is_good, deep.a_runner_can_be_registered):
            with self.subTest(looks=looks.__name__):
                said = doctor.one(looks, seen)
                self.assertEqual([it["status"] for it in said], ["ok"], said)
        self.assertEqual(said[0]["found"], "2 made, and removed")

    def test_what_denies_a_role(self):
        for result, said in (({}, "somebody changed"), ({"PermissionsBoundaryDecisionDetail": {"AllowedByPermissionsBoundary": False}},
                             "PermissionsBoundaryArn"), ({"OrganizationsDecisionDetail": {"AllowedByOrganizations": False}}, "service control")):
            self.assertIn(said, role_checks.because(result, "arn:aws:iam::1:role/x"))

    def deep(self, more=None):
        """What --deep finds. Nothing runs here, so the task is ended by hand."""
        found = {}

        def look():
            seen = Seen(self.stack, self.outputs, parameters(self.found) | (more or {}))
            found.update({said["id"]: said for looks in deep.CHECKS for said in doctor.one(looks, seen)})

        looking = threading.Thread(target=look)
        looking.start()
        ecs, cluster = self.aws.client("ecs"), self.outputs["ClusterName"]
        while looking.is_alive():
            for task in ecs.list_tasks(cluster=cluster, startedBy="doctor")["taskArns"]:
                ecs.stop_task(cluster=cluster, task=task)
            looking.join(0.1)
        return found

    def test_deep(self):
        with mock.patch.object(deep, "PAUSE", 0.1):
            found = self.deep()
            self.assertEqual({said["status"] for said in found.values()}, {"ok"}, found)
            calls = self.github.calls()
            self.assertIn("generate-jitconfig", calls)
            self.assertIn("delete runner", calls)
            found = self.deep({"RunnerGroupId": "99"})
            self.assertEqual(found["registration"]["status"], "fail", found)
            self.assertIn("RunnerGroupId", found["registration"]["fix"])
            # Of a container by another name: the local AWS lets any be overridden, so what is asked for is looked at.
            seen = mock.Mock(parameters={}, outputs=self.outputs)
            seen.container.return_value, seen.variables.return_value = "second", Seen(self.stack, self.outputs, {}).variables()
            ended = {"tasks": [{"taskArn": "arn", "lastStatus": "STOPPED", "containers": [{"name": "second", "exitCode": 0}]}], "failures": []}
            seen.client.return_value = ecs = mock.Mock(**{"run_task.return_value": ended, "describe_tasks.return_value": ended})
            said, = doctor.one(deep.a_task_runs, seen)
            self.assertEqual((said["status"], ecs.run_task.call_args[1]["overrides"]["containerOverrides"][0]["name"]), ("ok", "second"))
        with mock.patch.object(deep, "TASK_SECONDS", -1):
            seen = Seen(self.stack, self.outputs, parameters(self.found))
            said, = doctor.one(deep.a_task_runs, seen)
        self.assertEqual(said["status"], "fail")
        ecs, cluster = self.aws.client("ecs"), self.outputs["ClusterName"]
        self.assertEqual(ecs.list_tasks(cluster=cluster, startedBy="doctor")["taskArns"], [], "it was stopped")

    def test_a_bundle_for_a_bug_report(self):
        logs = self.aws.client("logs")
        group = f"/aws/lambda/{STACK}/dispatch"
        logs.create_log_stream(logGroupName=group, logStreamName="planted")
        line = json.dumps({"repository": f"{ORGANIZATION}/secret-plan", "message": "token ghs_0123456789abcdef0123 of jane@example.com"})
        logs.put_log_events(logGroupName=group, logStreamName="planted", logEvents=[
            {"timestamp": int(time.time() * 1000), "message": text} for text in (line, f"see {ORGANIZATION}/secret-plan", KEY.read_text())])
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            _, told = self.run_it("--bundle")
            path, = Path(folder).glob("doctor-*.zip")
            self.assertIn(path.name, told)
            with zipfile.ZipFile(path) as archive:
                files = {name: archive.read(name).decode() for name in archive.namelist()}
        self.assertEqual(set(files), {"doctor.json", "stack.json", "events.json", "webhook.log", "dispatch.log", "reconcile.log",
                                      "author.log"})
        self.assertIn('"repository": "repository-', files["dispatch.log"])
        self.assertIn("token TOKEN of ADDRESS", files["dispatch.log"])
        self.assertIn("WebhookUrl", files["stack.json"])
        for text in (ORGANIZATION, "000000000000", "secret-plan", "BEGIN RSA", "ghs_", KEY.read_text().splitlines()[3]):
            for name, contents in files.items():
                self.assertNotIn(text, contents, name)

    def test_no_credentials_of_a_proxy_are_in_a_bundle(self):
        redactor = bundle.Redactor("111122223333", "acme", [])
        for password in ("hunter2", "hunter~2", "~", "h.u-n_t~e.r", "user%2Fhunter2"):
            for text in (f'{{"HttpsProxy": "http://me:{password}@proxy.acme.test:3128"}}', f"http://{password}@10.0.0.1", f"as http://me:{password}@proxy:3128 says"):
                with self.subTest(text=text):
                    said = redactor.text(text)
                    self.assertNotIn(password, said)
                    self.assertRegex(said, "http://(CREDENTIALS@|ADDRESS)")
        self.assertEqual(redactor.text("https://github.com/a/b@v1 x@y"), "https://github.com/a/b@v1 x@y")

    def run_it(self, *arguments):
        told, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(errors), \
                mock.patch("sys.argv", ["doctor", *arguments]):
            return doctor.main(), told.getvalue() + errors.getvalue()

    def test_for_people_and_for_programs(self):
        code, told = self.run_it()
        self.assertEqual(code, 1)
        self.assertRegex(told, r"FAIL +the App's webhook leads to the stack: http")
        self.assertIn("fix: make setup sets it", told)
        code, told = self.run_it("--json")
        self.assertEqual(code, 1)
        for check in json.loads(told):
            self.assertEqual(set(check), {"id", "status", "what", "found", "fix"})
        code, told = self.run_it("--stack", "nothing")
        self.assertEqual(code, 2)
        self.assertIn("there is no stack nothing in us-east-1; way on: make setup", told)


if __name__ == "__main__":
    unittest.main()

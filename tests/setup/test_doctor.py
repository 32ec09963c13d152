"""make doctor on a local AWS: each fault is planted, exactly its check tells, and what its fix says makes it pass."""

import contextlib
import io
import json
import os
import unittest
from unittest import mock

from botocore.exceptions import ClientError

from world import CREDENTIALS, KEY, ORGANIZATION, STACK, GitHub, LocalAws, free_port

import doctor
from stack import Stack, outputs, parameters


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
        cls.aws.deploy({"Organization": ORGANIZATION, "GitHubApiUrl": cls.github.url})
        cls.put(json.dumps({"app_id": 7, "private_key": KEY.read_text()}))
        cls.stack = Stack(STACK)
        cls.found = cls.stack.describe()
        cls.outputs = outputs(cls.found)
        cls.before = cls.wrong()

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
        self.assertEqual(set(now) - set(self.before), {check}, now)
        self.assertIn(fix, now[check]["fix"])
        return now[check]

    def mended(self):
        now = self.wrong()
        self.assertEqual(set(now), set(self.before), now)

    def test_a_stack_that_was_just_deployed(self):
        # What a stack without jobs and without AlarmTopicArn has, and what the local AWS does not know.
        expected = {"deliveries: warn", "hook: fail", "alarms: warn", "quota_is_enough: unknown"}
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
        functions.update_event_source_mapping(UUID=mapping, Enabled=True)
        self.mended()

    def test_a_rule_that_is_off(self):
        events, bus, name = self.aws.client("events"), self.outputs["EventBusName"], "trigger-jit-self-hosted-runner"
        events.disable_rule(Name=name, EventBusName=bus)
        self.tells("rules: fail", f"aws events enable-rule --name {name} --event-bus-name {bus}")
        events.enable_rule(Name=name, EventBusName=bus)
        self.mended()

    def test_dead_letters(self):
        sqs, url = self.aws.client("sqs"), self.outputs["JobDeadLetterQueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody="{}")
        self.tells("dead-letters: warn", "aws sqs start-message-move-task --source-arn arn:aws:sqs:")
        sqs.purge_queue(QueueUrl=url)
        self.mended()

    def test_a_task_definition_that_went(self):
        ecs = self.aws.client("ecs")
        arn = self.outputs["TaskDefinitionArn"]
        kept = ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]
        container = {**kept["containerDefinitions"][0], "name": "another"}
        fields = ("family", "networkMode", "requiresCompatibilities", "cpu", "memory", "executionRoleArn", "taskRoleArn")
        again = {field: kept[field] for field in fields if kept.get(field)}
        made = ecs.register_task_definition(**again, containerDefinitions=[container])["taskDefinition"]["taskDefinitionArn"]
        found = self.tells("task-definition: fail", "make deploy")
        self.assertIn("another", found["found"])
        ecs.register_task_definition(**again, containerDefinitions=kept["containerDefinitions"])
        self.mended()
        ecs.deregister_task_definition(taskDefinition=made)

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
        self.tells("security-groups: fail", f"aws ec2 authorize-security-group-egress --group-id {group}")
        ec2.authorize_security_group_egress(GroupId=group, IpPermissions=rules)
        self.mended()

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

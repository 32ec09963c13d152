"""What was changed by hand is put back. The local AWS knows no drift, so each answer is one that CloudFormation's own model has."""

import unittest
from datetime import datetime

import boto3
from botocore.stub import ANY, Stubber
from local import STACK

import repair as repairing
import stack as stacks

ID = f"arn:aws:cloudformation:eu-west-1:111122223333:stack/{STACK}/0"
ROLE = {"Type": "Resource", "ResourceChange": {"Action": "Modify", "LogicalResourceId": "DispatchRole", "ResourceType": "AWS::IAM::Role"}}


class Repair(unittest.TestCase):
    def setUp(self):
        self.cloudformation = boto3.client("cloudformation", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
        self.stub = self.enterContext(Stubber(self.cloudformation))
        self.asked = []

    def status(self, status):
        stack = {"StackName": STACK, "StackId": ID, "StackStatus": status, "CreationTime": datetime(2026, 1, 1),
                 "Parameters": [{"ParameterKey": "Organization", "ParameterValue": "acme"}]}
        self.stub.add_response("describe_stacks", {"Stacks": [stack]}, {"StackName": STACK})

    def compared(self, *answers):
        self.status("UPDATE_COMPLETE")
        self.stub.add_response("create_change_set", {"Id": "x"}, {
            "StackName": ID, "ChangeSetName": ANY, "ChangeSetType": "UPDATE", "DeploymentMode": "REVERT_DRIFT",
            "UsePreviousTemplate": True, "Capabilities": repairing.CAPABILITIES,
            "Parameters": [{"ParameterKey": "Organization", "UsePreviousValue": True}]})
        for answer in answers:
            self.stub.add_response("describe_change_set", answer, {"StackName": ID, "ChangeSetName": ANY})

    def then(self, what):
        self.stub.add_response(what, {}, {"StackName": ID, "ChangeSetName": ANY})

    def repair(self, agree=None):
        return list(repairing.repair(lambda _: self.cloudformation, STACK, agree or self.asked.append, look_again=0))

    def tearDown(self):
        self.stub.assert_no_pending_responses()

    def test_a_role_is_put_back_once_somebody_agrees(self):
        self.compared({"Status": "CREATE_IN_PROGRESS"}, {"Status": "CREATE_COMPLETE", "Changes": [ROLE]})
        self.then("execute_change_set")
        self.status("UPDATE_IN_PROGRESS")
        self.status("UPDATE_COMPLETE")
        self.assertEqual(self.repair()[1:], ["modify: DispatchRole (AWS::IAM::Role)", "it is as it was deployed"])
        self.assertEqual(self.asked, [f"Put that back in {ID}?"])

    def test_nothing_is_done_where_nobody_agrees(self):
        def refuse(_):
            raise stacks.Failure("no")

        self.compared({"Status": "CREATE_COMPLETE", "Changes": [ROLE]})
        self.then("delete_change_set")
        with self.assertRaisesRegex(stacks.Failure, "no"):
            self.repair(refuse)

    def test_where_nothing_was_changed(self):
        for answer in ({"Status": "CREATE_COMPLETE", "Changes": []},
                       {"Status": "FAILED", "StatusReason": "The submitted information didn't contain changes."}):
            self.compared(answer)
            self.then("delete_change_set")
            self.assertIn("nothing to put back", self.repair()[-1])
        self.assertEqual(self.asked, [])

    def test_what_cannot_be_compared(self):
        self.compared({"Status": "FAILED", "StatusReason": "Access denied"})
        self.then("delete_change_set")
        with self.assertRaisesRegex(stacks.Failure, "cannot be compared: Access denied"):
            self.repair()

    def test_a_stack_that_can_only_be_deleted(self):
        self.status("ROLLBACK_COMPLETE")
        self.stub.add_response("describe_stack_events", {"StackEvents": []}, {"StackName": STACK})
        with self.assertRaisesRegex(stacks.Failure, "can only be deleted"):
            self.repair()


if __name__ == "__main__":
    unittest.main()

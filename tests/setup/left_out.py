"""What the doctor looks at and the local AWS leaves out: conditions in iam:SimulatePrincipalPolicy (the policies are the local
AWS's, read by the evaluator of tests/template), and a bus's policy as a whole (the one that template.yaml gives it)."""

import json
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1] / "template"))

from policies import allowed  # noqa: E402

import finding  # noqa: E402


class Iam:
    def __init__(self, iam):
        self.iam = iam

    def simulate_principal_policy(self, PolicySourceArn, ActionNames, ResourceArns=("*",), ContextEntries=()):
        role = PolicySourceArn.rsplit("/", 1)[-1]
        policies = [self.iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
                    for name in self.iam.list_role_policies(RoleName=role)["PolicyNames"]]
        statements = [statement for policy in policies for statement in policy["Statement"]]
        context = {entry["ContextKeyName"]: entry["ContextKeyValues"][0] for entry in ContextEntries}
        return {"EvaluationResults": [
            {"EvalActionName": action, "EvalDecision": "allowed" if allowed(statements, [], action, ResourceArns[0], context)
             else "implicitDeny"} for action in ActionNames]}


class Events:
    # Until somebody puts another.
    policy = None

    def __init__(self, events, role):
        self.events, self.role = events, role

    def __getattr__(self, name):
        return getattr(self.events, name)

    def describe_event_bus(self, Name):
        put = {"Action": "events:PutEvents", "Resource": f"arn:aws:events:us-east-1:000000000000:event-bus/{Name}"}
        template = [put | {"Sid": "PuttersMay", "Effect": "Allow", "Principal": {"AWS": self.role}},
                    put | {"Sid": "NobodyElseMay", "Effect": "Deny", "Principal": "*",
                           "Condition": {"ArnNotEquals": {"aws:PrincipalArn": self.role}}}]
        return self.events.describe_event_bus(Name=Name) | {
            "Policy": Events.policy or json.dumps({"Version": "2012-10-17", "Statement": template})}

    def put_permission(self, EventBusName, Policy):
        Events.policy = Policy


def install():
    real = finding.Seen.client

    def client(seen, service):
        found = real(seen, service)
        if service == "events":
            return Events(found, seen.function("webhook")["Role"])
        return Iam(found) if service == "iam" else found

    finding.Seen.client = client

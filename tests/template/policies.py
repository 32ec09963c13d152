"""Who may do what, worked out from template.yaml: its policies, resolved, and IAM's rules for one account.

Only what the template uses is understood; anything else raises, so that a new operator or function is never passed over.
"""

import fnmatch
import json
import re

import yaml

ACCOUNT = "111122223333"
PSEUDO = {"AWS::Partition": "aws", "AWS::Region": "eu-west-1", "AWS::AccountId": ACCOUNT, "AWS::StackName": "stack",
          "AWS::URLSuffix": "amazonaws.com"}
NOTHING = object()


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML with CloudFormation's short forms."""


def short_form(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", short_form)


class Stack:
    """The template with its parameters filled in; `arn` names resources as this evaluator does."""

    def __init__(self, path, **parameters):
        with open(path, encoding="utf-8") as file:
            self.template = yaml.load(file, Loader)
        defaults = {name: str(value.get("Default", "")) for name, value in self.template["Parameters"].items()}
        unknown = parameters.keys() - defaults.keys()
        if unknown:
            raise KeyError(unknown)
        self.parameters = {**defaults, **parameters}

    def arn(self, name):
        kind = self.template["Resources"][name]["Type"]
        if kind == "AWS::IAM::Role":
            return f"arn:aws:iam::{ACCOUNT}:role/{name}"
        if kind in ("AWS::SQS::Queue", "AWS::ECS::Cluster"):  # which policies name by their own names
            properties = self.template["Resources"][name]["Properties"]
            where = (f"sqs:eu-west-1:{ACCOUNT}:", "QueueName") if kind == "AWS::SQS::Queue" else (
                f"ecs:eu-west-1:{ACCOUNT}:cluster/", "ClusterName")
            return f"arn:aws:{where[0]}{self.resolve(properties[where[1]])}"
        if kind == "AWS::IAM::InstanceProfile":
            return f"arn:aws:iam::{ACCOUNT}:instance-profile/{name}"
        where = {"AWS::Events::Rule": "events:{}:rule/{}", "AWS::Logs::LogGroup": "logs:{}:log-group:{}:*",
                 "AWS::SecretsManager::Secret": "secretsmanager:{}:secret:{}", "AWS::ECR::Repository": "ecr:{}:repository/{}",
                 "AWS::CodeBuild::Project": "codebuild:{}:project/{}", "AWS::Serverless::LayerVersion": "lambda:{}:layer:{}:1",
                 "AWS::Serverless::Function": "lambda:{}:function:{}", "AWS::CloudWatch::Alarm": "cloudwatch:{}:alarm:{}"}[kind]
        return "arn:aws:" + where.format(f"eu-west-1:{ACCOUNT}", name)

    def holds(self, condition):
        return self.boolean(self.template["Conditions"][condition])

    def creates(self, name):
        resource = self.template["Resources"][name]
        return "Condition" not in resource or self.holds(resource["Condition"])

    def refusals(self):
        """What CloudFormation says of these parameters before it makes anything."""
        return [assertion["AssertDescription"] for rule in self.template["Rules"].values()
                if self.boolean(rule["RuleCondition"])
                for assertion in rule["Assertions"] if not self.boolean(assertion["Assert"])]

    def boolean(self, value):
        (function, argument), = value.items()
        if function == "Condition":
            return self.holds(argument)
        if function == "Fn::Equals":
            left, right = (str(self.resolve(side)) for side in argument)
            return left == right
        if function == "Fn::Not":
            return not self.boolean(argument[0])
        if function == "Fn::Or":
            return any(self.boolean(part) for part in argument)
        if function == "Fn::And":
            return all(self.boolean(part) for part in argument)
        if function == "Fn::Contains":
            return self.resolve(argument[1]) in self.resolve(argument[0])
        raise NotImplementedError(function)

    def ref(self, name):
        if name == "AWS::NoValue":
            return NOTHING
        if name in PSEUDO:
            return PSEUDO[name]
        return self.parameters[name] if name in self.parameters else self.arn(name)

    def attribute(self, name, attribute):
        if attribute == "Arn":
            return self.arn(name)
        if attribute == "QueueName":
            return self.resolve(self.template["Resources"][name]["Properties"][attribute])
        raise NotImplementedError(attribute)

    def function(self, function, argument):
        if function == "Ref":
            return self.ref(argument)
        if function == "Fn::GetAtt":
            return self.attribute(*(argument.split(".") if isinstance(argument, str) else argument))
        if function == "Fn::Sub":
            text, known = (argument, {}) if isinstance(argument, str) else argument
            known = self.resolve(known)
            return re.sub(r"\$\{([\w:]+)(?:\.(\w+))?\}", lambda match: known[match[1]] if match[1] in known else
                          self.attribute(*match.groups()) if match[2] else self.ref(match[1]), text)
        if function == "Fn::If":
            return self.resolve(argument[1 if self.holds(argument[0]) else 2])
        if function == "Fn::Select":
            return self.resolve(argument[1])[int(argument[0])]
        if function == "Fn::Split":
            return self.resolve(argument[1]).split(argument[0])
        raise NotImplementedError(function)

    def resolve(self, value):
        if isinstance(value, dict):
            if len(value) == 1:
                (key, argument), = value.items()
                if key == "Ref" or key.startswith("Fn::"):
                    return self.function(key, argument)
            resolved = {key: self.resolve(part) for key, part in value.items()}
            return {key: part for key, part in resolved.items() if part is not NOTHING}
        if isinstance(value, list):
            return [part for part in map(self.resolve, value) if part is not NOTHING]
        return value

    def of_role(self, role):
        properties = self.template["Resources"][role]["Properties"]
        policies = self.resolve(properties.get("Policies", []))
        return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]

    def of_queue(self, queue):
        policy = self.template["Resources"][f"{queue}Policy"]["Properties"]
        if self.resolve(policy["Queues"]) != [self.arn(queue)]:
            raise ValueError(f"{queue}Policy is another queue's")
        return self.resolve(policy["PolicyDocument"])["Statement"]

    def dashboard(self):
        """The widgets of the dashboard."""
        return json.loads(self.resolve(self.template["Resources"]["Dashboard"]["Properties"])["DashboardBody"])["widgets"]

    def of_bus(self):
        return self.resolve(self.template["Resources"]["EventBus"]["Properties"]["Policy"])["Statement"]


def many(value):
    return value if isinstance(value, list) else [value]


def like(value, patterns):
    return any(fnmatch.fnmatchcase(value, str(pattern)) for pattern in many(patterns))


def condition_holds(operator, key, wanted, context):
    """A key that is not there meets only a negated operator."""
    if operator == "Null":
        return (key not in context) == (wanted == "true")
    if operator not in ("ArnEquals", "ArnNotEquals", "StringEquals", "Bool"):
        raise NotImplementedError(operator)
    found = key in context and like(context[key], wanted)
    return not found if operator == "ArnNotEquals" else found


def applies(statement, action, resource, context):
    known = {"Sid", "Effect", "Action", "Resource", "Principal", "Condition"}
    if statement.keys() - known:
        raise NotImplementedError(statement.keys() - known)
    if not like(action, statement["Action"]) or not like(resource, statement["Resource"]):
        return False
    principal = statement.get("Principal", "*")
    if principal != "*":
        (kind, named), = principal.items()
        if kind not in ("Service", "AWS"):
            raise NotImplementedError(principal)
        if context.get("service" if kind == "Service" else "aws:PrincipalArn") not in many(named):
            return False
    return all(condition_holds(operator, key, wanted, context)
               for operator, keys in statement.get("Condition", {}).items() for key, wanted in keys.items())


def allowed(identity, on_resource, action, resource, context):
    """In one account: no Deny anywhere, and an Allow in either policy."""
    effects = {statement["Effect"] for statement in identity + on_resource
               if applies(statement, action, resource, context)}
    return effects == {"Allow"}

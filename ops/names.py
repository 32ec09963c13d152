"""The names of what a stack keeps, worked out of template.yaml: CloudFormation leaves it behind, and makes none again under a
name that is there."""

import re

import yaml

from stack import ROOT

NAMED = {"AWS::SQS::Queue": "QueueName", "AWS::Logs::LogGroup": "LogGroupName", "AWS::SecretsManager::Secret": "Name",
         "AWS::ECR::Repository": "RepositoryName"}


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML with CloudFormation's short forms."""


def short_form(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    construct = loader.construct_sequence if isinstance(node, yaml.SequenceNode) else loader.construct_mapping
    return {suffix: construct(node, deep=True)}


Loader.add_multi_constructor("!", short_form)


def template():
    return yaml.load((ROOT / "template.yaml").read_text(encoding="utf-8"), Loader)


def kept(stack, parameters, template_):
    """(type, name) of all that a stack with these parameters keeps; those that are not given have their defaults."""
    known = {name: str(it.get("Default", "")) for name, it in template_["Parameters"].items()} | parameters
    known["AWS::StackName"] = stack

    def value(it):
        if isinstance(it, str):
            return it
        (function, argument), = it.items()
        if function == "Ref":
            return known[argument]
        if function == "Sub":
            return re.sub(r"\$\{([\w:]+)\}", lambda match: known[match[1]], argument)
        condition, yes, no = argument
        return value(yes if holds({"Condition": condition}) else no)

    def holds(it):
        (function, argument), = it.items()
        if function == "Condition":
            return holds(template_["Conditions"][argument])
        if function == "Equals":
            return value(argument[0]) == str(value(argument[1]) if isinstance(argument[1], dict) else argument[1])
        return {"Not": lambda parts: not parts[0], "And": all, "Or": any}[function]([holds(part) for part in argument])

    return {(it["Type"], value(it["Properties"][NAMED[it["Type"]]])) for it in template_["Resources"].values()
            if it["Type"] in NAMED and ("Condition" not in it or holds({"Condition": it["Condition"]}))}


def of(kind, id_):
    """The name in CloudFormation's id of one of them: a queue's URL, a secret's ARN, and else the name itself."""
    if kind == "AWS::SQS::Queue":
        return id_.rsplit("/", 1)[-1]
    return re.sub(r"^arn:.*:secret:(.*)-\w{6}$", r"\1", id_)

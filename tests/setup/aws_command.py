"""An `aws …` command out of a fix, carried out as the AWS CLI would: so that a fix is what is tested, not what it means."""

import shlex
from pathlib import Path

from botocore import xform_name


def until_it_ends(words):
    """A sentence goes on after a comma, a colon or a semicolon."""
    for word in words:
        yield word.rstrip(",:;")
        if word[-1] in ",:;":
            return


def carry_out(client, fix):
    """The first command of the fix; `client(service)` makes a client."""
    _, service, command, *words = until_it_ends(shlex.split(fix[fix.index("aws "):]))
    client = client(service)
    operation = "".join(part.capitalize() for part in command.split("-"))
    operation = next(name for name in client.meta.service_model.operation_names if name.lower() == operation.lower())
    members = client.meta.service_model.operation_model(operation).input_shape.members
    of_option = {xform_name(name, "-"): name for name in members}
    given, option = {}, None
    for word in words:
        if word.startswith("--"):
            option = word[2:]
            given[option] = []
        else:
            given[option].append(word)
    if operation == "AuthorizeSecurityGroupEgress":  # the CLI's own short form
        protocol, cidr = given.pop("protocol")[0], given.pop("cidr")[0]
        given["ip-permissions"] = [{"IpProtocol": protocol, "IpRanges": [{"CidrIp": cidr}]}]
    arguments = {of_option[option]: value(members[of_option[option]], words) for option, words in given.items()}
    return getattr(client, xform_name(operation))(**arguments)


def value(shape, words):
    if words == ["[]"]:
        return []
    if shape.type_name == "list":
        return [structure(word, shape.member) if shape.member.type_name == "structure" else word for word in words]
    if shape.type_name == "boolean":
        return True
    if shape.type_name == "integer":
        return int(words[0])
    if shape.type_name == "blob":
        return Path(words[0].removeprefix("fileb://")).read_bytes()
    return words[0]


def structure(word, shape):
    """The CLI's shorthand: Id=queue,Arn=arn:…"""
    if isinstance(word, dict):
        return word
    pairs = [part.split("=", 1) for part in word.split(",")]
    return {name: value(shape.members[name], [text]) for name, text in pairs}

"""What a bug report needs, in one zip file without names: `make doctor BUNDLE=1`.

Account, organisation, repositories, addresses of the stack, and whatever looks like a credential are replaced, the same by
the same, so that a story can still be followed. Read it before you send it.
"""

import json
import re
import time
import zipfile
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from finding import FUNCTIONS, LIMITS, SAME_CODE
from stack import outputs, parameters, why

HOURS, LINES = 24, 500
SECRETS = [
    # Of a URL. First: what follows would take it apart.
    (r'://[^/@\s"]+@', "://CREDENTIALS@"),
    (r"-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|\Z)", "KEY"),
    (r"\b(ghp|gho|ghu|ghs|ghr|github_pat|v1)[_.][A-Za-z0-9_.]{16,}", "TOKEN"),
    (r"\bey[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", "JWT"),
    (r"\b(AKIA|ASIA)[A-Z0-9]{16}\b", "ACCESS-KEY"),
    (r"\b[A-Za-z0-9+/]{80,}={0,2}", "BASE64"),
    (r"\b[\w.+-]+@[\w-]+\.[\w.-]+\b", "ADDRESS"),
]
REPOSITORY = re.compile(r'(?<="repository":")[^"]+|(?<="repository": ")[^"]+')


class Redactor:
    """Replaces what names somebody; the same name by the same word."""

    def __init__(self, account, organization, own):
        self.words, self.repositories = {account: "111122223333"}, {}
        if organization not in ("", "*"):
            self.words[organization] = "ORGANIZATION"
        self.words |= {word: f"ADDRESS-{number}" for number, word in enumerate(sorted(own), 1) if word}

    def text(self, text):
        for pattern, word in SECRETS:
            text = re.sub(pattern, word, text, flags=re.DOTALL)
        text = REPOSITORY.sub(lambda found: self.repository(found[0]), text)
        for name, alias in self.repositories.items():
            text = text.replace(name, alias)
        for word, alias in self.words.items():
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", alias, text, flags=re.IGNORECASE)
        return text

    def repository(self, name):
        return self.repositories.setdefault(name, f"repository-{len(self.repositories) + 1}")


def write(stack, report, folder=Path(".")):
    """The sentence that says where it is."""
    found = stack.describe()
    of_stack, given = outputs(found), parameters(found)
    account = found["StackId"].split(":")[4]
    hosts = re.findall(r"https?://([^/]+)", of_stack.get("WebhookUrl", ""))
    redactor = Redactor(account, given.get("Organization", ""), hosts)
    logs = {name: log(stack, of_stack[output]) for name, output in FUNCTIONS.items() if output in of_stack and name not in SAME_CODE}
    # Repositories are named in logs, and so are known before anything is written.
    for text in logs.values():
        redactor.text(text)
    files = {"doctor.json": json.dumps(report, indent=1),
             "stack.json": json.dumps({"status": found["StackStatus"], "parameters": given, "outputs": of_stack}, indent=1),
             "events.json": json.dumps(events(stack), indent=1)} | {f"{name}.log": text for name, text in logs.items()}
    path = folder / f"doctor-{time.strftime('%Y%m%d-%H%M%S')}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, redactor.text(text))
    return f"{path}: account, organisation and repositories are replaced in it. Read it before you send it."


def events(stack):
    told = ("Timestamp", "LogicalResourceId", "ResourceType", "ResourceStatus", "ResourceStatusReason")
    return [{key: str(event[key]) for key in told if key in event} for event in stack.events()[:100]]


def log(stack, function):
    """The last lines of a function's log."""
    logs = stack.session.client("logs", config=LIMITS)
    try:
        configuration = stack.session.client("lambda", config=LIMITS).get_function_configuration(FunctionName=function)
        group = configuration.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{function}"
        lines = []
        for page in logs.get_paginator("filter_log_events").paginate(
                logGroupName=group, startTime=int((time.time() - HOURS * 3600) * 1000), PaginationConfig={"MaxItems": 20 * LINES}):
            lines += [event["message"].rstrip() for event in page["events"]]
        return "\n".join(lines[-LINES:])
    except (BotoCoreError, ClientError) as error:
        return f"cannot be read: {why(error)}"

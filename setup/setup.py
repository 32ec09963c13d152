"""From nothing to the first runner: what `make setup ORG=acme` runs.

Every step looks first and does what is missing, so running it again goes on where it broke off:
the stack, the GitHub App (by way of a page on 127.0.0.1), its key in Secrets Manager, its webhook, its installation, and
a proof of each. The App's key is in this process's memory and in Secrets Manager, and nowhere else.
"""

import argparse
import getpass
import hashlib
import hmac
import html
import json
import os
import pathlib
import queue
import re
import secrets
import signal
import sys
import threading
import time
import uuid
import webbrowser
from urllib.parse import parse_qs, urlsplit

from botocore.exceptions import BotoCoreError, ClientError

import doctor
import web
from app_key import NoKey
from github import GitHub, Refused, asked, in_secret, lacking, manifest, may
from page import Page, button
from stack import ROOT, Failure, Stack, outputs, parameters, why

POLL_SECONDS = 3
DELIVERY_SECONDS = 90
PING_SECONDS = 60
WORKFLOW = """\
name: fargate
on: [push, workflow_dispatch]
jobs:
  hello:
    runs-on: [self-hosted, fargate]
    steps:
      - run: echo "Hello from $RUNNER_NAME"
"""


def say(text):
    print(text, flush=True)


class Setup:
    def __init__(self, options):
        self.options, self.organization = options, options.org
        self.github, self.stack = GitHub(options.github), Stack(options.stack)
        self.began, self.times = time.monotonic(), []

    def run(self):
        self.preflight()
        self.timed("stack", self.deploy)
        with Page() as page:
            self.page = page
            self.app = self.timed("App", self.find_or_make_app)
            self.point_hook_here()
            installation = self.timed("installation", self.find_or_ask_installation)
            self.timed("proof", lambda: self.prove(installation))
            self.first_job()

    def timed(self, what, step):
        began = time.monotonic()
        result = step()
        self.times.append(f"{what} {time.monotonic() - began:.0f} s")
        return result

    # -- 1. Look -------------------------------------------------------------------------------------------

    def preflight(self):
        identity = self.stack.identity()
        account, region = identity["Account"], self.stack.session.region_name
        say(f"AWS account {account}, Region {region}, as {identity['Arn'].rsplit(':', 1)[-1]}")
        self.check_organization()
        vcpus = self.stack.fargate_vcpus()
        say(f"Fargate quota: {vcpus:g} vCPU, so {vcpus:g} runners of the smallest default size at one time" if vcpus
            else "Fargate quota: unknown (is servicequotas:GetServiceQuota allowed?)")
        found = self.stack.describe()
        say(f"stack {self.stack.name}: {found['StackStatus'] if found else 'none yet'}")
        if found is None and not self.options.yes and sys.stdin.isatty():
            if input(f"Deploy it there, for {self.organization}? [Y/n] ").strip().lower() not in ("", "y", "yes"):
                raise Failure("nothing was changed; way on: set AWS_PROFILE and AWS_REGION, and again")

    def check_organization(self):
        try:
            account = self.github.account(self.organization)
        except Refused as error:
            say(f"{error}; whether {self.organization} exists is not known, going on")
            return
        if account is None:
            raise Failure(f"{self.github.host} knows no {self.organization}; way on: make setup ORG=(the organisation's name "
                         "as it is in its address)")
        if account.get("type") != "Organization":
            raise Failure(f"{self.organization} is a person's account, and GitHub gives runners for all repositories to "
                         "organisations only; way on: make setup ORG=(an organisation of yours), or docs/settings.md, "
                         "RUNNER_SCOPE=repo, by hand")
        self.organization = account["login"]
        say(f"organisation {self.organization} at {self.github.host}")

    # -- 2. The stack --------------------------------------------------------------------------------------

    def deploy(self):
        found = self.stack.settled(say)
        if reason := self.stack.unusable(found):
            raise Failure(reason)
        if found is None:
            wanted = {"Organization": self.organization}
            if self.github.host != "https://github.com":
                wanted["GitHubApiUrl"] = self.github.api
            say("deploying: "
                + ("the release in dist/" if (ROOT / "dist").is_dir() else "the functions are built first (minutes)")
                + ", then comes a line a resource")
            found = self.stack.deploy(wanted, say)
        elif os.environ.get("PARAMETERS"):
            say("the stack is there: PARAMETERS changes nothing here; make deploy PARAMETERS=… does")
        self.outputs, self.parameters = outputs(found), parameters(found)
        theirs = self.parameters.get("Organization", "")
        if theirs not in ("*",) and theirs.lower() != self.organization.lower():
            raise Failure(f"the stack {self.stack.name} serves {theirs}; way on: make setup ORG={self.organization} "
                         "STACK=(another name), or make deploy with Organization changed")
        if "GitHubSecretArn" not in self.outputs:
            raise Failure("the stack is container-minted, and has no secret for an App; "
                         "way on: make deploy with Mode=dispatcher-minted, and again")
        if "WebhookUrl" not in self.outputs:
            raise Failure(f"the stack {self.stack.name} has no webhook (FrontDoor=none) that an App could be made for; way on: make deploy "
                          "with another FrontDoor, and again, or docs/install.md, \"By hand\"")
        say(f"stack {self.stack.name} is there")

    # -- 3. The App ----------------------------------------------------------------------------------------

    def find_or_make_app(self):
        arn = self.outputs["GitHubSecretArn"]
        held, *others = [self.stack.read_secret(it).strip() for it in arn.split(",")]
        apps = _apps(held)
        if others or len(apps) > 1:
            raise Failure(f"there are several Apps in {arn}, and setup looks after one, whose key it would write over theirs; way on: "
                         "make doctor looks at each, and docs/settings.md, \"Several Apps\", says how they are kept")
        if self.options.key:
            return self.take_existing_app(arn)
        if held in ("", "{}", "[]") or self.options.new_app:
            return self.make_app(arn)
        try:
            app = self.github.app(*apps[0])
        except (ValueError, TypeError) as error:
            what = f"its private_key: {error}" if isinstance(error, NoKey) else (
                "it is JSON without client_id (or app_id) and private_key" if held.startswith(("{", "[")) else
                "it holds a token, and only an App has its own webhook")
            raise Failure(f"the secret {arn} is not an App's: {what}; way on: make setup ORG={self.organization} NEW_APP=1 "
                         "(replaces it), or APP_ID=… KEY=file.pem for an App that you have") from None
        except Refused as error:
            raise Failure(f"{error}: the App in the secret {arn} is not there any more, or has another key; way on: make "
                         f"setup ORG={self.organization} NEW_APP=1, or APP_ID=… KEY=file.pem with a new key") from None
        say(f"App {app.slug} is there: {app.url}")
        return app

    def take_existing_app(self, arn):
        if not self.options.app_id:
            raise Failure("KEY needs APP_ID beside it; way on: APP_ID=(the number on the App's settings page)")
        try:
            app = self.github.app(self.options.app_id, pathlib.Path(self.options.key).read_text())
        except (OSError, UnicodeDecodeError):
            raise Failure(f"{self.options.key} cannot be read; way on: KEY=(the .pem file that GitHub gave you)") from None
        except NoKey as error:
            raise Failure(f"{self.options.key}: {error}; way on: the App's settings, Private keys, Generate") from None
        except Refused as error:
            raise Failure(f"{error}: the key is not one of App {self.options.app_id}; way on: compare APP_ID with the App's "
                         "settings page, or generate a new key there") from None
        self.store(arn, app)
        return app

    def make_app(self, arn):
        if self.options.code:
            asked = "The address that the owner's browser ended at, or the code in it: "
            # Not echoed: a code is good for the key.
            code = _code_in(getpass.getpass(asked) if sys.stdin.isatty() else sys.stdin.readline())
            app = self.convert(code)
            if app is None:
                raise Failure("GitHub does not know the code: it was used, or is older than an hour; way on: let the owner "
                             "press the button again")
        else:
            app = self.ask_for_app()
        self.store(arn, app)
        return app

    def ask_for_app(self):
        self.show_button()
        _listen(self.page)
        say(f"\nOpen {self.page.url}\n  (no browser here? ssh -L {self.page.server.server_port}:127.0.0.1:"
            f"{self.page.server.server_port} leads to this page, or paste the address at which a browser ended)")
        if not self.options.no_browser:
            threading.Thread(target=webbrowser.open, args=(self.page.url,), daemon=True).start()
        while True:
            kind, code = self.next_event("waiting for the App; the page is still at " + self.page.url)
            if kind != "code":
                continue
            app = self.convert(code)
            if app:
                return app
            self.page.spent = False
            wrong = ("GitHub does not know the code: it was used, or is older than an hour. If an App was made, delete it or "
                     "let this be another. Way on: press the button again.")
            say(wrong)
            self.show_button(wrong)

    def convert(self, code):
        """The App; None: the code is no good."""
        try:
            app, owner = self.github.convert(code)
        except Refused as error:
            if error.status in (404, 422):
                return None
            raise Failure(f"{error}; way on: again in a few minutes") from None
        if owner.lower() != self.organization.lower():
            raise Failure(f"the App belongs to {owner} and not to {self.organization}, so its key was thrown away; way on: "
                         "delete that App, and again")
        say(f"App {app.slug} was made: {app.url}")
        return app

    def show_button(self, wrong=""):
        address, hook = self.page.address, self.outputs["WebhookUrl"]
        url = self.github.new_app_url(self.organization, self.page.state)
        more = asked(self.parameters)
        app = manifest(self.organization, self.github, hook, address, more=more)
        other = manifest(self.organization, self.github, hook, address, "-" + secrets.token_hex(2), more)
        self.page.owner_page = (f"<!doctype html><meta charset=utf-8><title>GitHub App</title><p>{html.escape(OWNER.format(may(app)))}</p>"
                                + button(url, app, f"Create the App for {self.organization}"))
        body = (button(url, app, "Create the GitHub App")
                + f"<details><summary>GitHub says that the name is taken</summary>"
                + button(url, other, f"Use {other['name']}", plain=True) + "</details>"
                + "<details><summary>GitHub shows a page 404: you are no owner of the organisation</summary>"
                  "<p>Send <a href=owner.html>this file</a> to an owner. The owner opens it, presses the button, and sends "
                  "you the address at which the browser ends (it cannot be shown there, and need not). Paste it below, or "
                  f"later: <code>make setup ORG={html.escape(self.organization)} CODE=1</code></p></details>"
                + "<details open><summary>The browser ended at an address that it cannot show</summary>"
                  "<form method=post action=paste><input name=address placeholder='http://127.0.0.1:…/created?code=…' "
                  "autocomplete=off><button class=plain id=paste>Go on with that address</button></form></details>")
        self.page.show(1, f"GitHub asks you to confirm the name of an App for {self.organization}. {may(app)}", body, wrong)

    def store(self, arn, app):
        """At once: GitHub shows a key once. While it cannot be written it is kept in memory."""
        while True:
            try:
                self.stack.write_secret(arn, app.secret())
                say("its key is in Secrets Manager, and nowhere else")
                return
            except (BotoCoreError, ClientError) as error:
                wrong = (f"The App's key could not be written to {arn} ({why(error)}). It is kept in memory. Way on: allow "
                         "secretsmanager:PutSecretValue, then try again; if you end this now, make another App.")
                _listen(self.page)
                say(wrong + f"\nTry again on {self.page.url} or with Enter.")
                retry = '<form method=post action=retry><button id="retry">Try again</button></form>'
                self.page.show(1, "The App is made.", retry, wrong)
                while self.next_event("the key is still in memory only; try again on " + self.page.url)[0] != "retry":
                    pass

    def next_event(self, still):
        while True:
            try:
                return self.page.events.get(timeout=60)
            except queue.Empty:
                say(still)

    def point_hook_here(self):
        """GitHub gets the stack's URL and secret, so the two are the same whatever was there before."""
        secret = _current(self.stack.read_secret(self.outputs["WebhookSecretArn"]))
        try:
            self.github.set_hook(self.app, self.outputs["WebhookUrl"], secret)
        except Refused as error:
            raise Failure(f"{error}: the App's webhook cannot be set; way on: the App's settings, Webhook, Active, URL "
                         f"{self.outputs['WebhookUrl']}, and again") from None
        self.hook_secret = secret
        say("its webhook leads to the stack")

    # -- 4. The installation -------------------------------------------------------------------------------

    def find_or_ask_installation(self):
        found, said, waited = self.github.installation(self.app, self.organization), None, 0
        if found is None:
            self.ask_to_install("")
            say(f"Install it: {self.github.install_url(self.app)}")
        while found is None:
            wrong = self.why_not_installed()
            if wrong and wrong != said:
                say(wrong)
                self.ask_to_install(wrong)
                said = wrong
            waited += 1
            if waited % 20 == 0:
                say(f"waiting for the installation: {self.github.install_url(self.app)}")
            time.sleep(POLL_SECONDS)
            found = self.github.installation(self.app, self.organization)
        self.look_at_installation(found)
        return found["id"]

    def why_not_installed(self):
        actions = []
        while not self.page.events.empty():
            actions.append(self.page.events.get())
        if ("installed", "request") in actions:
            return ("You asked an owner to install the App, and it is not approved yet. Way on: an owner approves it at "
                    f"{self.github.approvals(self.organization)}; this waits.")
        elsewhere = [account["login"] for account in self.github.installed_elsewhere(self.app)]
        if elsewhere:
            return (f"The App is installed on {', '.join(elsewhere)}, and not on {self.organization}. Way on: choose "
                    f"{self.organization} at {self.github.install_url(self.app)}; this waits.")
        return ""

    def ask_to_install(self, wrong):
        url = html.escape(self.github.install_url(self.app))
        self.page.show(2, "Now let GitHub install it, for all repositories. This page goes on by itself.",
                       f'<p><a class="button" id="install" href="{url}">Install the App</a></p>', wrong, waits=True)

    def look_at_installation(self, found):
        where = found.get("html_url") or self.github.approvals(self.organization)
        if found.get("suspended_at"):
            raise Failure(f"the installation is suspended; way on: unsuspend it at {where}, and again")
        if missing := lacking(found.get("permissions", {})):
            raise Failure(f"the installation lacks {', '.join(missing)}; way on: grant it in the App's settings "
                         f"({self.github.app_settings(self.organization, self.app.slug)}/permissions), accept it at {where}, "
                         "and again")
        say(f"installed for {self.organization}")
        if found.get("repository_selection") == "selected":
            say(f"  for selected repositories only: jobs of the others get no runner. To change that: {where}")

    # -- 5. Proof ------------------------------------------------------------------------------------------

    def prove(self, installation):
        self.page.show(3, "Proving it: a signed ping, GitHub's own delivery, a registration made and removed …", waits=True)
        self.ping()
        self.github_reaches_us()
        self.mint(installation)
        report = doctor.examine(self.stack, self.outputs, self.parameters)
        if told := [check for check in report if check["status"] != "ok"]:
            say(doctor.table(told))
        fails = sum(check["status"] == "fail" for check in report)
        say(f"doctor: {len(report)} checks, {f'{fails} fail' if fails else 'none fails'}")

    def ping(self):
        body = json.dumps({"zen": "Keep it logically awesome.", "hook_id": 1}).encode()
        signature = "sha256=" + hmac.new(self.hook_secret.encode(), body, hashlib.sha256).hexdigest()
        until = time.monotonic() + PING_SECONDS
        while True:
            answer = web.send("POST", self.outputs["WebhookUrl"], {
                "Content-Type": "application/json", "X-GitHub-Event": "ping", "X-GitHub-Delivery": str(uuid.uuid4()),
                "X-Hub-Signature-256": signature}, body)
            # What was deployed a moment ago may not yet read its secret (503), nor be called (403).
            if answer.status not in (403, 429, 500, 502, 503, 504) or time.monotonic() > until:
                break
            time.sleep(POLL_SECONDS)
        if answer.status != 200:
            raise Failure(f"the webhook answers a signed ping with {answer.status}: {answer.message()}; way on: its log, "
                         f"/aws/lambda/{self.stack.name}/webhook")
        say("a signed ping: 200")

    def github_reaches_us(self):
        """GitHub's own log says what our webhook answered: that proves URL and secret at GitHub."""
        until, asked_again = time.monotonic() + DELIVERY_SECONDS, None
        while True:
            newest = next(iter(self.github.deliveries(self.app)), None)
            if newest and 200 <= newest["status_code"] < 300:
                say(f"GitHub reached the webhook: {newest['event']} -> {newest['status_code']}")
                return
            if newest and newest["status_code"] and asked_again is None:
                # It was sent before the webhook's secret was the right one.
                self.github.redeliver(self.app, newest)
                asked_again = newest["id"]
            if time.monotonic() > until:
                break
            time.sleep(POLL_SECONDS)
        if newest is None:
            say("GitHub has sent nothing yet; the first job will show whether it reaches the webhook")
            return
        status = newest["status_code"]
        reason = "it gets no answer, so it has no way to the URL" if not status else (
            "the secrets differ" if status == 401 else "the webhook's log says why")
        raise Failure(f"GitHub's delivery of {newest['event']} ended with {status or 'no answer'}: {reason}; way on: "
                     f"{self.github.app_settings(self.organization, self.app.slug)}/advanced shows it whole; and again")

    def mint(self, installation):
        if self.parameters.get("RunnerScope", "org") != "org":
            say("no registration was tried: RunnerScope is not org")
            return
        group = int(self.parameters.get("RunnerGroupId") or 1)
        try:
            self.github.mint_and_delete(self.app, installation, self.organization, group,
                                        f"setup-check-{secrets.token_hex(4)}")
        except Refused as error:
            fix = (f"is there a runner group {group}, open to the App? (RunnerGroupId)" if error.status == 404 else
                   f"the permission Self-hosted runners: read and write, to accept at {self.github.approvals(self.organization)}"
                   if error.status == 403 else "githubstatus.com")
            raise Failure(f"{error}: no runner can be registered; way on: {fix}; and again") from None
        say("a registration was made, and removed")

    # -- 6. The first job ----------------------------------------------------------------------------------

    def first_job(self):
        say(f"\nDone in {time.monotonic() - self.began:.0f} s ({', '.join(self.times)}). Put this into a private repository "
            f"of {self.organization} as .github/workflows/fargate.yml:\n\n{WORKFLOW}")
        pasted = f"<p><code>.github/workflows/fargate.yml</code></p><pre id=workflow>{html.escape(WORKFLOW)}</pre>"
        text = f"Everything is in place. Put this into a private repository of {self.organization}:"
        if self.options.no_wait:
            self.page.show_last(5, text, pasted)
            return
        self.page.show(4, text, pasted, waits=True)
        say("Waiting for its runner (Ctrl-C ends the waiting, and nothing else) …")
        known = {task["taskArn"] for task in self.stack.tasks(self.outputs["ClusterName"])}
        while True:
            for task in self.stack.tasks(self.outputs["ClusterName"]):
                if task["taskArn"] not in known and task["lastStatus"] == "RUNNING":
                    self.tell_started(task, pasted)
                    return
            time.sleep(POLL_SECONDS)

    def tell_started(self, task, pasted):
        tags = {tag["key"]: tag["value"] for tag in task.get("tags", [])}
        took = (task["startedAt"] - task["createdAt"]).total_seconds() if task.get("startedAt") else 0
        text = f"The first runner runs: {tags.get('gha:runner-name', 'a runner')}, {took:.0f} s after its task was made."
        say(text)
        self.page.show_last(5, text, pasted)


OWNER = ("This makes a GitHub App for your organisation's self-hosted runners. {} When the browser ends at an address that it "
         "cannot show, send that address back: it is good once, for an hour.")


def _apps(held):
    """(id, key) of each App in a secret; None stands for what is none."""
    try:
        return in_secret(held)
    except ValueError:
        return [None]


def _current(secret):
    """The secret to sign with: while it is rotated, it is JSON with the current one in it."""
    try:
        return json.loads(secret)["current"]
    except (ValueError, TypeError, KeyError):
        return secret


def _code_in(text):
    text = text.strip()
    return parse_qs(urlsplit(text).query).get("code", [text])[0] if "code=" in text else text


def _listen(page):
    """The terminal: a pasted address is as good as the browser's, Enter tries again."""
    if page.listens or not sys.stdin or sys.stdin.closed:
        return
    page.listens = True

    def read():
        for line in sys.stdin:
            if "code=" in line:
                if wrong := page.take(parse_qs(urlsplit(line.strip()).query)):
                    say(wrong)
            elif not line.strip():
                page.events.put(("retry", None))

    threading.Thread(target=read, daemon=True).start()


def options():
    parser = argparse.ArgumentParser(prog="make setup", description=__doc__.splitlines()[0])
    parser.add_argument("--org", required=True)
    parser.add_argument("--stack", default="gha-fargate-runners")
    parser.add_argument("--github", default="https://github.com", help="the host of a GitHub Enterprise Server")
    parser.add_argument("--app-id", type=int, help="an App that exists, with --key")
    parser.add_argument("--key", help="its private key, a file")
    parser.add_argument("--code", action="store_true", help="asks for the address that an owner's browser ended at")
    parser.add_argument("--new-app", action="store_true", help="makes an App though the secret holds credentials")
    parser.add_argument("--yes", action="store_true", help="asks nothing")
    parser.add_argument("--no-wait", action="store_true", help="does not wait for the first job")
    parser.add_argument("--no-browser", action="store_true", help="opens none")
    found = parser.parse_args()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", found.org):
        parser.error("ORG is an organisation's name, as in its address: make setup ORG=acme")
    # A code and a key travel there; http is for a stand-in on this machine.
    if not re.fullmatch(r"(https://[^/\s]+|http://127\.0\.0\.1:\d+)/?", found.github):
        parser.error("GITHUB is an address such as https://github.example.com")
    return found


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        Setup(options()).run()
    except (Failure, web.Unreachable, Refused) as failure:
        sys.exit(f"setup: {failure}")
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"setup: AWS refuses ({why(error)}); way on: mend that, and again")
    except KeyboardInterrupt:
        sys.exit("\nsetup: ended by you; nothing is lost, and running it again goes on from here")


if __name__ == "__main__":
    os.umask(0o077)
    main()

"""GitHub as setup and doctor need it: https://docs.github.com/en/rest."""

import json
from dataclasses import dataclass, field
from urllib.parse import quote

import web
from app_key import AppKey

VERSION = "2022-11-28"
PERMISSIONS = {"organization_self_hosted_runners": "write", "actions": "read", "metadata": "read"}
# As GitHub's pages call them.
PERMISSION_NAMES = {
    "organization_self_hosted_runners": "Organization permissions: Self-hosted runners",
    "actions": "Repository permissions: Actions",
    "metadata": "Repository permissions: Metadata",
}
# As people are asked for them; a new one wants its words.
WORDS = {
    ("organization_self_hosted_runners", "write"): "manage self-hosted runners",
    ("actions", "read"): "read Actions",
    ("actions", "write"): "read and write Actions (to run interrupted jobs again)",
    ("metadata", "read"): "read metadata of repositories",
    ("checks", "write"): "read and write Checks (to tell why a job waits)",
    ("administration", "write"): "administer repositories (which registers their runners)",
}
EVENTS = ["workflow_job"]
# "The name cannot be longer than 34 characters."
LONGEST_NAME = 34


class Refused(Exception):
    """GitHub's answer is an error: its status, and what GitHub says."""

    def __init__(self, what, answer):
        super().__init__(f"GitHub answers {what} with {answer.status}" + (f": {answer.message()}" * bool(answer.message())))
        self.status = answer.status


@dataclass(frozen=True)
class App:
    """A GitHub App, with its key."""

    id: int
    slug: str
    url: str
    key: AppKey = field(repr=False)
    pem: str = field(repr=False)

    def secret(self):
        """What the functions read."""
        return json.dumps({"app_id": self.id, "private_key": self.pem})


def in_secret(text):
    """(id, private key) of each App in a secret, and None for what is none: as the functions read it (docs/settings.md)."""
    held = json.loads(text) if text.startswith(("{", "[")) else text
    if isinstance(held, list):
        return [it for part in held for it in in_secret(part if isinstance(part, str) else json.dumps(part))]
    if not isinstance(held, dict) or "private_key" not in held:
        return [None]
    id_ = held.get("client_id") or held.get("app_id")
    return [(id_, held["private_key"]) if id_ else None]


def app_name(organization, suffix=""):
    end = "-fargate-runners" + suffix
    return organization[:LONGEST_NAME - len(end)].rstrip("-") + end


class GitHub:
    def __init__(self, host):
        self.host = host.rstrip("/")
        name = self.host.removeprefix("https://")
        # With data residency the API has a name of its own, as at github.com; a server has it below its own.
        self.api = f"https://api.{name}" if name == "github.com" or name.endswith(".ghe.com") else f"{self.host}/api/v3"
        if self.host.startswith("http://"):  # a stand-in on this machine, as template.yaml takes one
            self.api = self.host

    # -- Addresses for people ------------------------------------------------------------------------------

    def new_app_url(self, organization, state):
        return f"{self.host}/organizations/{quote(organization)}/settings/apps/new?state={state}"

    def app_settings(self, organization, slug):
        return f"{self.host}/organizations/{quote(organization)}/settings/apps/{slug}"

    def install_url(self, app):
        return f"{app.url}/installations/new"

    def approvals(self, organization):
        return f"{self.host}/organizations/{quote(organization)}/settings/installations"

    # -- Calls -----------------------------------------------------------------------------------------------

    def call(self, method, path, token=None, body=None, expected=(200,)):
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": VERSION,
                   "User-Agent": "gha-fargate-runners-setup"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        answer = web.send(method, self.api + path, headers, data)
        if answer.status not in expected:
            # A code is a secret, and part of its path.
            raise Refused(f"{method} {'/'.join(path.split('?')[0].split('/')[:2])}", answer)
        return answer

    def as_app(self, app, method, path, body=None, expected=(200,)):
        return self.call(method, path, app.key.jwt(app.id), body, expected)

    def account(self, login):
        """The organisation or person of that name; None: there is nobody."""
        answer = self.call("GET", f"/users/{quote(login)}", expected=(200, 404))
        return answer.json() if answer.status == 200 else None

    def convert(self, code):
        """Exchanges a manifest's code for the App and its key: once, within the hour."""
        made = self.call("POST", f"/app-manifests/{quote(code, safe='')}/conversions", expected=(201,)).json()
        app = App(made["id"], made["slug"], made["html_url"], AppKey(made["pem"]), made["pem"])
        return app, made["owner"]["login"]

    def app(self, app_id, pem):
        """The App of these credentials, as GitHub knows it."""
        key = AppKey(pem)
        known = self.call("GET", "/app", key.jwt(app_id)).json()
        return App(known["id"], known["slug"], known["html_url"], key, pem)

    def set_hook(self, app, url, secret):
        self.as_app(app, "PATCH", "/app/hook/config",
                    {"url": url, "secret": secret, "content_type": "json", "insecure_ssl": "0"})

    def installation(self, app, organization):
        answer = self.as_app(app, "GET", f"/orgs/{quote(organization)}/installation", expected=(200, 404))
        return answer.json() if answer.status == 200 else None

    def installed_elsewhere(self, app):
        """Accounts that the App is installed in."""
        return [found["account"] for found in self.as_app(app, "GET", "/app/installations").json()]

    def deliveries(self, app):
        return self.as_app(app, "GET", "/app/hook/deliveries?per_page=100").json()

    def redeliver(self, app, delivery):
        self.as_app(app, "POST", f"/app/hook/deliveries/{delivery['id']}/attempts", expected=(202,))

    def mint_and_delete(self, app, installation, organization, group, name):
        """Makes one registration and removes it: what dispatch does for each job."""
        token = self.as_app(app, "POST", f"/app/installations/{installation}/access_tokens",
                            expected=(201,)).json()["token"]
        runners = f"/orgs/{quote(organization)}/actions/runners"
        made = self.call("POST", f"{runners}/generate-jitconfig", token,
                         {"name": name, "runner_group_id": group, "labels": ["setup-check"]}, expected=(201,)).json()
        self.call("DELETE", f"{runners}/{made['runner']['id']}", token, expected=(204, 404))


def wanted(parameters):
    """The permissions that only running interrupted jobs again takes, and telling their authors."""
    wants = {"actions": "write"} if parameters.get("RerunInterrupted", "0") != "0" else {}
    return wants | ({"checks": "write"} if parameters.get("CheckRuns") == "true" else {})


def asked(parameters):
    """What the manifest asks for beyond that which every App needs."""
    return wanted(parameters) | ({"administration": "write"} if parameters.get("RunnerScope") == "repo" else {})


def manifest(organization, github, webhook, page, suffix="", more=None):
    """"Registering a GitHub App from a manifest": https://docs.github.com/en/apps/sharing-github-apps."""
    return {
        "name": app_name(organization, suffix),
        "url": f"{github.host}/{organization}",
        "hook_attributes": {"url": webhook, "active": True},
        "redirect_url": f"{page}/created",
        "setup_url": f"{page}/installed",
        "public": False,
        "default_events": EVENTS,
        "default_permissions": PERMISSIONS | (more or {}),
    }


def may(asked):
    """What the App of that manifest may do, as a sentence."""
    return f"It may {', '.join(WORDS[it] for it in asked['default_permissions'].items())}, and nothing else."


def lacking(granted):
    """The permissions that are not there, by name."""
    enough = {"read": ("read", "write"), "write": ("write",)}
    return [f"{PERMISSION_NAMES[name]}: {access}" for name, access in PERMISSIONS.items()
            if granted.get(name) not in enough[access]]

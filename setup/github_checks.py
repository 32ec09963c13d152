"""Is what the settings say of GitHub so there? The organisation's name, and a token where there is no App. Checks of the doctor."""

import re
from datetime import datetime, timedelta, timezone

from deep import of_api
from finding import check
from github import GitHub

SOON = timedelta(days=14)
# What a classic token needs, by where runners register; fine-grained ones do not tell what they have.
SCOPES = {"org": "admin:org", "repo": "repo", "enterprise": "manage_runners:enterprise"}


def github(seen):
    return GitHub(of_api(seen.parameters.get("GitHubApiUrl") or "https://api.github.com"))


def organization_is_there(seen):
    what, name = "the organisation is spelled as at GitHub", seen.parameters.get("Organization", "*")
    if name == "*":
        yield check("organization", "ok", what, "any owner is served")
        return
    account = github(seen).account(name)
    if account is None:
        yield check("organization", "fail", what, f"GitHub knows no {name}", 'make deploy PARAMETERS="Organization=..." with its name')
    elif account.get("type") != "Organization" and seen.parameters.get("RunnerScope", "org") == "org":
        yield check("organization", "fail", what, f"{name} is a person, who has no runners for all repositories",
                    'make deploy PARAMETERS="RunnerScope=repo"')
    elif account["login"] != name:
        yield check("organization", "warn", what, f"there it is {account['login']}",
                    f'make deploy PARAMETERS="Organization={account["login"]}"')
    yield check("organization", "ok", what, name)


def token_is_good(seen):
    """Asked as the functions ask, with what they have; the token goes to GitHub and nowhere else."""
    tokens = [held for held in seen.credentials() if not held.startswith(("{", "["))]
    for token in tokens:
        yield from of_token(seen, token)
    if not tokens:
        yield check("token", "ok", "an App needs no token")


def of_token(seen, held):
    what = "the token may register runners, and goes on to"
    answer = github(seen).call("GET", "/rate_limit", held, expected=range(600))
    settings = "https://github.com/settings/tokens, then the secret"
    if answer.status == 401:
        yield check("token", "fail", what, "GitHub does not take it: it has expired, or was revoked", f"a new one: {settings}")
        return
    name = seen.parameters.get("Organization", "*")
    if name != "*":
        there = github(seen).call("GET", f"/orgs/{name}", held, expected=range(600))
        if needed := re.search(r"url=(\S+)", there.headers.get("X-GitHub-SSO") or ""):
            yield check("token", "fail", what, f"{name} demands single sign-on, and it is not authorised for that", f"authorise it: {needed[1]}")
    scopes, needs = answer.headers.get("X-OAuth-Scopes"), SCOPES[seen.parameters.get("RunnerScope", "org").split("/")[0]]
    if scopes is not None and needs not in scopes.replace(" ", "").split(","):
        yield check("token", "fail", what, f"its scopes are {scopes or 'none'}, without {needs}", f"give it {needs}: {settings}")
    ends = expiry(answer.headers.get("GitHub-Authentication-Token-Expiration"))
    if ends and ends - datetime.now(timezone.utc) < SOON:
        yield check("token", "warn", what, f"it expires on {ends:%Y-%m-%d}", f"a new one: {settings}; an App's key does not expire "
                    "(make setup NEW_APP=1)")
    yield check("token", "ok", what, f"until {ends:%Y-%m-%d}" if ends else "it does not say that it expires")


def expiry(text):
    """"2026-12-27 10:00:00 UTC", or with an offset."""
    for form in ("%Y-%m-%d %H:%M:%S %z", "%Y-%m-%d %H:%M:%S %Z"):
        try:
            told = datetime.strptime(text or "", form)
        except ValueError:
            continue
        return told if told.tzinfo else told.replace(tzinfo=timezone.utc)
    return None


CHECKS = [organization_is_there, token_is_good]

"""From an empty account to the first runner, through a real browser; each failure with its way on; and killed anywhere,
and run again."""

import html
import json
import os
import pathlib
import re
import tempfile
import unittest
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import parse_qs, urlencode, urlsplit

from browser import Browser, missing
from world import BINARIES, KEY, ORGANIZATION, ROOT, STACK, GitHub, LocalAws, ProcessList, Run, free_port, request

from app_key import AppKey

PICTURES = ROOT / "docs" / "pictures"


def setUpModule():
    if absent := missing():
        raise unittest.SkipTest(f"NOT TRIED: {' and '.join(absent)} not found (Debian: apt-get install chromium "
                                "chromium-driver)")


class World(unittest.TestCase):
    """A local AWS a class; a GitHub a test, at an address that stays the same."""

    @classmethod
    def setUpClass(cls):
        cls.aws = cls.enterClassContext(LocalAws())
        cls.port = free_port()

    def setUp(self):
        self.github = None
        self.begin_github("--no-app", "yes")
        # The stack is the class's, and its secret holds the App of the test before: a sweep would ask this GitHub with that.
        events = self.aws.client("events")
        for rule in events.list_rules()["Rules"]:
            if "ScheduleExpression" in rule:
                events.disable_rule(Name=rule["Name"])

    def begin_github(self, *arguments):
        if self.github:
            self.github.end()
        self.github = GitHub(self.aws.endpoint, self.port, *arguments)
        self.addCleanup(self.github.close)

    def tearDown(self):
        self.github.end()

    def setup(self, *arguments, **more):
        run = Run(self.aws.endpoint, self.github.url, *arguments, **more)
        self.addCleanup(run.close)
        return run

    def browser(self):
        return self.enterContext(Browser())

    def held(self):
        """What the stack's secret holds."""
        return self.aws.client("secretsmanager").get_secret_value(SecretId=f"{STACK}/github")["SecretString"]

    def webhook_secret(self):
        return self.aws.client("secretsmanager").get_secret_value(SecretId=f"{STACK}/webhook-secret")["SecretString"]


def make_app(browser):
    browser.click("#create")  # ours
    browser.until("GitHub's page", lambda: "Create GitHub App for" in browser.text("h1"))
    browser.click("#create")  # GitHub's


def install_app(browser):
    browser.sees("Install the App")
    browser.click("#install")  # ours
    browser.until("GitHub's page", lambda: browser.text("h1") == "Install")
    browser.click("#install")  # GitHub's


class FromNothing(World):
    def test_to_the_first_runner_and_again(self):
        with ProcessList() as processes:
            run, browser = self.setup(), self.browser()
            browser.open(run.page())
            self.picture(browser, "setup-app.png")
            make_app(browser)
            install_app(browser)
            browser.sees("Everything is in place")
            run.says("Waiting for its runner")
            self.assertEqual(self.github.job(4711), 202)
            browser.sees("The first runner runs: fargate-4711-1")
            self.picture(browser, "setup-end.png")
            output = run.ends()
        for told in ("stack gha-fargate-runners: none yet", "create complete: WebhookFunction", "a signed ping: 200",
                     "GitHub reached the webhook: installation -> 202", "a registration was made, and removed",
                     "none fails", "alarms tell somebody: they tell nobody", "runs-on: [self-hosted, fargate]"):
            self.assertIn(told, output)
        self.only_in_secrets_manager(output, browser, processes)
        self.and_again()

    def only_in_secrets_manager(self, output, browser, processes):
        held = json.loads(self.held())
        self.assertEqual(held["private_key"], KEY.read_text())
        secrets = [line for line in KEY.read_text().splitlines() if len(line) > 40] + ["BEGIN RSA", self.webhook_secret()]
        self.assertTrue(any("local_setup" in line for line in processes.seen), "the process list was looked at")
        pages = [text for page in browser.seen for text in page]
        self.assertTrue(any("state=" in text for text in pages), "the pages were looked at")
        for secret in secrets:
            for place, texts in (("output", [output]), ("page or address", pages), ("process list", processes.seen)):
                self.assertFalse(any(secret in text for text in texts), f"a secret is in the {place}")
        codes = [text for text in [output, *processes.seen] if re.search("code=[0-9a-f]{40}", text)]
        self.assertEqual(codes, [], "a code is good for the key")
        addresses = [address for address, _ in browser.seen]
        self.assertFalse(any("code=" in address for address in addresses), "nor does one stay in the address bar")

    def and_again(self):
        before, calls = self.held(), self.github.calls()
        output = self.setup("--no-wait").ends()
        self.assertEqual(self.held(), before)
        self.assertEqual(self.github.calls().count("convert manifest"), calls.count("convert manifest"))
        for told in ("App acme-fargate-runners is there", "installed for acme", "a signed ping: 200"):
            self.assertIn(told, output)
        self.assertNotIn("deploying", output)

    def picture(self, browser, name):
        """For docs/install.md: `PICTURES=1 make test-setup` takes them anew."""
        if os.environ.get("PICTURES"):
            browser.screenshot(PICTURES / name)


class KilledAnywhere(World):
    def test_after_each_step(self):
        browser, state = self.browser(), {}
        steps = [
            ("create complete: ", lambda run: None),
            ("Open http://", lambda run: None),
            ("its key is in Secrets Manager", lambda run: (browser.open(run.page()), make_app(browser))),
            ("its webhook leads to the stack", lambda run: None),
            ("installed for acme", self.install(browser, state)),
            ("a registration was made, and removed", lambda run: None),
        ]
        for said, does in steps:
            with self.subTest(killed_after=said):
                run = self.setup()
                does(run)
                run.says(said)
                run.kill()
        output = self.setup("--no-wait").ends()
        self.assertIn("none fails", output)
        self.assertEqual(self.github.calls().count("convert manifest"), 1, "one App, made once")

    @staticmethod
    def install(browser, state):
        def does(run):
            run.says("Install it: ")
            url = re.search(r"Install it: (\S+)", run.output)[1]

            def installed():
                # The page of a run that was killed refreshes itself, and may take this one's place.
                browser.open(url)
                browser.do("POST", f"/element/{browser.find('#install')}/click")
                return "<h1>Install</h1>" not in browser.source()

            browser.until("the App is installed", installed)
        return does


class WithAStack(World):
    """The stack is there, and its secret holds no App yet."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.aws.deploy({"Organization": ORGANIZATION, "GitHubApiUrl": f"http://127.0.0.1:{cls.port}"})

    def setUp(self):
        super().setUp()
        self.put("{}")

    def put(self, text):
        self.aws.client("secretsmanager").put_secret_value(SecretId=f"{STACK}/github", SecretString=text)


class WhileTheAppIsMade(WithAStack):
    def begin(self, *arguments):
        run, browser = self.setup("--no-wait", *arguments), self.browser()
        browser.open(run.page())
        return run, browser

    def finish(self, run, browser):
        install_app(browser)
        browser.sees("Everything is in place")
        return run.ends()

    def test_an_owner_makes_it_from_a_file_and_sends_the_address_back(self):
        self.github.tell("signup", {"is_owner": False})
        run, browser = self.begin()
        browser.click("#create")
        browser.sees("404")
        browser.back()
        file = request("GET", run.page() + "owner.html")[1]
        run.kill()

        self.github.tell("signup", {"is_owner": True})
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "github-app-for-an-owner.html"
            path.write_bytes(file)
            browser.open(path.as_uri())
            make_app(browser)
        browser.until("an address that cannot be shown", lambda: "/created?code=" in browser.address())
        later = self.setup("--no-wait", "--code")
        later.type(browser.address())
        later.says("its key is in Secrets Manager")
        later.says("Install it: ")
        self.github.tell("signup", {"install": ORGANIZATION})
        later.ends()

        used = self.setup("--no-wait", "--code", "--new-app")
        used.type(browser.address())
        self.assertIn("it was used, or is older than an hour; way on: let the owner press the button", used.ends(1))

    def test_a_code_is_good_for_an_hour(self):
        run, browser = self.begin()
        run.kill()
        make_app(browser)
        browser.until("an address that cannot be shown", lambda: "/created?code=" in browser.address())
        self.github.tell("signup", {"advance_seconds": 3601})
        later = self.setup("--no-wait", "--code")
        later.type(browser.address())
        self.assertIn("older than an hour", later.ends(1))
        self.assertEqual(self.held(), "{}")

    def test_the_browser_is_elsewhere(self):
        run, browser = self.begin()
        # The address that the browser cannot show is pasted, into the page or the terminal.
        state = self.state(browser)
        run.type("http://127.0.0.1:1/created?code=0123456789abcdef0123456789abcdef01234567&state=" + state)
        run.says("GitHub does not know the code")
        browser.open(run.page())
        browser.sees("GitHub does not know the code")
        browser.type("input[name=address]", "http://127.0.0.1:1/created?code=0123456789&state=another")
        browser.click("#paste")
        browser.sees("does not belong to this run")
        make_app(browser)
        self.finish(run, browser)

    def test_a_browser_on_another_machine_and_this_terminal(self):
        run, browser = self.begin()
        run.type(self.made_elsewhere(run))
        run.says("its key is in Secrets Manager")
        browser.open(run.page())
        self.finish(run, browser)

    def test_a_browser_on_another_machine_and_this_page(self):
        run, browser = self.begin()
        browser.type("input[name=address]", self.made_elsewhere(run))
        browser.click("#paste")
        browser.sees("Install the App")
        self.finish(run, browser)

    @staticmethod
    def made_elsewhere(run):
        """The address at which a browser ends that does not reach the page: it sends GitHub the page's form, and confirms the name."""
        def post(path, **fields):
            with closing(HTTPConnection(place.netloc, timeout=30)) as connection:
                connection.request("POST", path, urlencode(fields), {"Content-Type": "application/x-www-form-urlencoded"})
                answer = connection.getresponse()
                return answer.read().decode(), answer.headers.get("Location")

        page = html.unescape(request("GET", run.page())[1].decode())
        action, manifest = re.search(r'action="([^"]+)"><input type="hidden" name="manifest" value="(.*?)"><button', page).groups()
        place = urlsplit(action)
        form, _ = post(f"{place.path}?{place.query}", manifest=manifest)
        number = re.search(r"name=form value=(\d+)", form)[1]
        _, address = post(f"/organizations/{ORGANIZATION}/settings/apps", form=number, name="acme-fargate-runners")
        return address

    @staticmethod
    def state(browser):
        form = re.search(r'action="([^"]+state=[^"]+)"', browser.source())[1]
        return parse_qs(urlsplit(form).query)["state"][0]

    def test_a_name_that_is_taken(self):
        self.github.tell("signup", {"taken": "acme-fargate-runners"})
        run, browser = self.begin()
        page = browser.address()
        make_app(browser)
        browser.sees("Name has already been taken")
        browser.open(page)
        browser.click("details summary")
        browser.click("#other")
        browser.click("#create")
        self.assertRegex(self.finish(run, browser), r"App acme-fargate-runners-[0-9a-f]{4} was made")

    def test_a_state_of_somebody_else_s(self):
        run, browser = self.begin()
        page = browser.address()
        address = f"http://{urlsplit(page).netloc}/created?code=0123456789abcdef0123456789abcdef01234567&state="
        for state in ("", "0" * 64):
            browser.open(address + state)
            browser.sees("does not belong to this run")
        self.assertNotIn("convert manifest", self.github.calls())
        make_app(browser)
        self.finish(run, browser)

    def test_back_and_again(self):
        run, browser = self.begin()
        state, page = self.state(browser), browser.address()
        make_app(browser)
        browser.sees("Install the App")
        browser.open(f"http://{urlsplit(page).netloc}/created?code=0123456789abcdef0123456789abcdef01234567&state={state}")
        browser.sees("Install the App")
        self.assertEqual(self.github.calls().count("convert manifest"), 1)
        self.finish(run, browser)

    def test_nobody_else_s_page_gets_anything(self):
        run, browser = self.begin()
        place = urlsplit(browser.address())
        root = f"http://{place.netloc}"
        for path, headers in (("/", {}), ("/index.html", {}), (place.path, {"Host": "evil.example"}),
                              (place.path, {"Host": f"evil.example:{place.port}"})):
            status, body = request("GET", root + path, headers=headers)
            self.assertEqual(status, 404, (path, headers))
            self.assertNotIn(self.state(browser).encode(), body)
        run.kill()

    def test_a_secret_that_cannot_be_written(self):
        secrets = self.aws.client("secretsmanager")
        run, browser = self.begin()
        secrets.delete_secret(SecretId=f"{STACK}/github", RecoveryWindowInDays=7)
        make_app(browser)
        browser.sees("It is kept in memory")
        browser.click("#retry")
        browser.sees("It is kept in memory")
        secrets.restore_secret(SecretId=f"{STACK}/github")
        browser.click("#retry")
        output = self.finish(run, browser)
        self.assertIn("could not be written to", output)
        self.assertNotIn(KEY.read_text().splitlines()[1], output)
        self.assertEqual(json.loads(self.held())["private_key"], KEY.read_text())

    def test_killed_while_the_key_is_in_memory(self):
        secrets = self.aws.client("secretsmanager")
        run, browser = self.begin()
        secrets.delete_secret(SecretId=f"{STACK}/github", RecoveryWindowInDays=7)
        make_app(browser)
        browser.sees("It is kept in memory")
        run.kill()
        secrets.restore_secret(SecretId=f"{STACK}/github")
        again = self.setup("--no-wait")
        browser.open(again.page())
        make_app(browser)
        browser.sees("Name has already been taken")
        browser.open(again.page())
        browser.click("details summary")
        browser.click("#other")
        browser.click("#create")
        self.finish(again, browser)


class WhileItIsInstalled(WithAStack):
    def begin(self):
        run, browser = self.setup("--no-wait"), self.browser()
        browser.open(run.page())
        make_app(browser)
        browser.sees("Install the App")
        return run, browser

    def test_an_owner_must_approve(self):
        self.github.tell("signup", {"needs_approval": True})
        run, browser = self.begin()
        install_app(browser)
        browser.sees("it is not approved yet")
        self.github.tell("signup", {"install": ORGANIZATION})
        output = run.ends()
        self.assertIn(f"an owner approves it at {self.github.url}/organizations/acme/settings/installations", output)
        self.assertIn("GitHub has sent nothing yet", output)

    def test_a_person_installed_it(self):
        run, browser = self.begin()
        self.github.tell("signup", {"install": "somebody", "on_person": True})
        browser.sees("The App is installed on somebody, and not on acme. Way on: choose acme")
        install_app(browser)
        browser.sees("Everything is in place")
        run.ends()

    def test_selected_repositories_only(self):
        self.github.tell("signup", {"selected": True})
        run, browser = self.begin()
        install_app(browser)
        browser.sees("Everything is in place")
        self.assertIn("for selected repositories only: jobs of the others get no runner", run.ends())

    def test_the_window_was_closed(self):
        run, browser = self.begin()
        self.enterContext(other := Browser())
        browser.open("about:blank")
        other.open(run.page())
        install_app(other)
        other.sees("Everything is in place")
        run.ends()


class WhatIsThereAlready(WithAStack):
    def test_an_enterprise_server(self):
        """Its API is below /api/v3, and its pages are not."""
        self.begin_github("--app-private-key", str(KEY), "--app-id", "99", "--installation", f"4={ORGANIZATION}")
        output = self.setup("--no-wait", "--app-id", "99", "--key", str(KEY), program="local_enterprise.py").ends()
        for told in (f"organisation acme at {self.github.url}", "its webhook leads to the stack", "installed for acme",
                     "a registration was made, and removed"):
            self.assertIn(told, output)

    def test_an_app_of_yours(self):
        self.begin_github("--app-private-key", str(KEY), "--app-id", "99", "--installation", f"4={ORGANIZATION}")
        output = self.setup("--no-wait", "--app-id", "99", "--key", str(KEY)).ends()
        self.assertIn("its webhook leads to the stack", output)
        self.assertEqual(json.loads(self.held())["app_id"], 99)
        self.assertEqual(self.github.job(4712), 202, "GitHub has the stack's secret and URL")

    def test_a_key_that_is_none(self):
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            for text, told in (("hello", "it is no PEM file"),
                               ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "it is a public key"),
                               ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "it is damaged")):
                file.seek(0)
                file.truncate()
                file.write(text)
                file.flush()
                output = self.setup("--app-id", "99", "--key", file.name).ends(1)
                self.assertIn(told, output)
                self.assertIn("way on: the App's settings, Private keys, Generate", output)
        self.assertIn("KEY needs APP_ID", self.setup("--key", str(KEY)).ends(1))
        self.assertIn("cannot be read", self.setup("--app-id", "9", "--key", "/nowhere.pem").ends(1))

    def test_what_the_secret_holds_is_no_app(self):
        for text, told in (("ghp_" + "0" * 36, "it holds a token"), ('{"app_id": 1}', "without client_id (or app_id) and private_key"),
                           (json.dumps({"app_id": 1, "private_key": "key.pem"}), "its private_key: it is no PEM file")):
            self.put(text)
            output = self.setup().ends(1)
            self.assertIn(told, output)
            self.assertIn("way on: make setup ORG=acme NEW_APP=1", output)
            self.assertNotIn("ghp_", output)

    def test_an_organization_that_is_none(self):
        self.assertIn("a-person is a person's account", self.setup(org="a-person").ends(1))
        self.assertIn("knows no no-such", self.setup(org="no-such").ends(1))
        self.assertIn("serves acme; way on: make setup ORG=other STACK=", self.setup(org="other").ends(1))

    def test_a_stack_whose_first_deployment_failed(self):
        stacks, name = self.aws.client("cloudformation"), "broken"
        policy = {"PolicyName": "x", "PolicyDocument": {}, "Roles": ["there-is-none"]}
        bad = {"Bad": {"Type": "AWS::IAM::Policy", "Properties": policy}}
        stacks.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": bad}))
        output = self.setup("--stack", name).ends(1)
        self.assertIn("is in ROLLBACK_COMPLETE because of", output)
        self.assertIn("way on: aws cloudformation delete-stack --stack-name broken --region us-east-1", output)


class Keys(unittest.TestCase):
    def test_a_key_shows_nothing_of_itself(self):
        key = AppKey(KEY.read_text())
        self.assertEqual(repr(key), "AppKey")
        self.assertEqual(len(key.jwt(1, now=1).split(".")), 3)
        with self.assertRaises(TypeError):
            __import__("pickle").dumps(key)

    def test_both_forms_sign_alike(self):
        pkcs8 = AppKey(KEY.with_name("app-key.pkcs8.pem").read_text())
        pkcs1 = AppKey(KEY.read_text())
        escaped = AppKey(KEY.read_text().replace("\n", "\\n"))
        self.assertEqual({key._sign(b"text") for key in (pkcs1, pkcs8, escaped)}, {pkcs1._sign(b"text")})


if __name__ == "__main__":
    assert BINARIES
    unittest.main()

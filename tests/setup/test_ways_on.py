"""Every failure of setup has its sentence and its way on, also where no browser is in it; and each GitHub its addresses."""

import argparse
import ast
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor, TimeoutError as NotDone
from unittest import mock
from urllib.request import urlopen

from world import KEY, ROOT

import deep
import setup
import stack
from github import App, GitHub, Refused
from page import Page
from setup import Setup
from stack import Failure
from web import Answer

SECRETS = {"GitHubSecretArn": "arn:github", "WebhookSecretArn": "arn:webhook", "WebhookUrl": "https://webhook.test/"}
APP = App(7, "acme-fargate-runners", "https://github.com/apps/acme-fargate-runners", mock.Mock(), "pem")


def begun(github="https://github.com", **options):
    """Setup, with AWS and GitHub played by mocks."""
    given = {"org": "acme", "stack": "runners", "github": github, "app_id": None, "key": None, "code": False, "new_app": False,
             "yes": True, "no_wait": True, "no_browser": True} | options
    with mock.patch.object(setup, "Stack"):
        begun = Setup(argparse.Namespace(**given))
    begun.stack.name, begun.outputs, begun.parameters, begun.app = "runners", SECRETS, {}, APP
    begun.hook_secret, begun.page, real = "secret", mock.Mock(), begun.github
    begun.github = mock.Mock(wraps=real, host=real.host, api=real.api)
    return begun


def refused(status):
    return Refused("GET /app", Answer(status, {}, b"{}"))


class WaysOn(unittest.TestCase):
    def fails(self, does, *told):
        with self.assertRaises(Failure) as failure:
            does()
        for text in ("way on: ", *told):
            self.assertIn(text, str(failure.exception))

    def test_every_sentence_has_one(self):
        tree = ast.parse((ROOT / "setup" / "setup.py").read_text())
        raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
                  and getattr(node.exc.func, "id", "") == "Failure"]
        texts = ["".join(part.value for part in ast.walk(it) if isinstance(part, ast.Constant) and isinstance(part.value, str))
                 for it in raised if not isinstance(it.args[0], ast.Name)]  # the stack's own sentence: tests/ops
        self.assertGreater(len(texts), 15)
        for text in texts:
            with self.subTest(text=text):
                self.assertIn("way on: ", text)

    def test_an_app_of_somebody_else(self):
        run = begun()
        run.github.convert = mock.Mock(return_value=(APP, "other"))
        self.fails(lambda: run.convert("code"), "belongs to other and not to acme, so its key was thrown away", "delete that App")
        run.github.convert.side_effect = refused(404)
        self.assertIsNone(run.convert("code"))
        run.github.convert.side_effect = refused(500)
        self.fails(lambda: run.convert("code"), "500", "again in a few minutes")

    def test_credentials_that_github_does_not_know(self):
        run = begun()
        run.stack.read_secret.return_value = '{"app_id": 7, "private_key": "pem"}'
        run.github.app = mock.Mock(side_effect=refused(401))
        self.fails(run.find_or_make_app, "is not there any more, or has another key", "NEW_APP=1")
        run = begun(app_id=8, key=str(KEY))
        run.stack.read_secret.return_value = "{}"
        run.github.app = mock.Mock(side_effect=refused(401))
        self.fails(run.find_or_make_app, "the key is not one of App 8", "generate a new key")

    def test_an_app_by_its_client_id(self):
        run = begun()
        run.stack.read_secret.return_value = '[{"client_id": "Iv23li", "app_id": 7, "private_key": "pem"}]'
        run.github.app = mock.Mock(return_value=APP)
        self.assertIs(run.find_or_make_app(), APP)
        run.github.app.assert_called_once_with("Iv23li", "pem")

    def test_several_apps_are_left_alone(self):
        one = '{"app_id": 7, "private_key": "pem"}'
        for arns, held, options in (("arn:1", f"[{one}, {one}]", {}), ("arn:1", f"[{one}, {one}]", {"new_app": True}),
                                    ("arn:1,arn:2", one, {}), ("arn:1,arn:2", "{}", {"app_id": 8, "key": str(KEY)})):
            run = begun(**options)
            run.outputs = SECRETS | {"GitHubSecretArn": arns}
            run.stack.read_secret.side_effect = {arn: held for arn in arns.split(",")}.__getitem__
            with self.subTest(arns=arns, options=options):
                self.fails(run.find_or_make_app, "several Apps", "make doctor")
                run.stack.write_secret.assert_not_called()

    def test_a_stack_without_a_secret_for_an_app(self):
        run = begun()
        run.stack.unusable.return_value = ""
        run.stack.settled.return_value = {"Outputs": [], "Parameters": [{"ParameterKey": "Organization", "ParameterValue": "acme"}]}
        self.fails(run.deploy, "container-minted", "Mode=dispatcher-minted")

    def test_a_stack_without_a_front_door(self):
        run = begun()
        run.stack.unusable.return_value = ""
        told = [{"OutputKey": name, "OutputValue": it} for name, it in SECRETS.items() if name == "GitHubSecretArn"]
        run.stack.settled.return_value = {"Outputs": told, "Parameters": [{"ParameterKey": "Organization", "ParameterValue": "acme"}]}
        self.fails(run.deploy, "no webhook (FrontDoor=none)", "By hand")

    def test_a_webhook_that_cannot_be_set(self):
        run = begun()
        run.stack.read_secret.return_value = "secret"
        run.github.set_hook = mock.Mock(side_effect=refused(404))
        self.fails(run.point_hook_here, "the App's webhook cannot be set", SECRETS["WebhookUrl"])

    def test_an_installation_that_will_not_do(self):
        run, all_ = begun(), {"organization_self_hosted_runners": "write", "actions": "read", "metadata": "read"}
        self.fails(lambda: run.look_at_installation({"suspended_at": "now", "html_url": "PAGE"}), "suspended", "unsuspend it at PAGE")
        for lacks, named in (("organization_self_hosted_runners", "Self-hosted runners: write"), ("actions", "Actions: read")):
            granted = {name: access for name, access in all_.items() if name != lacks}
            self.fails(lambda: run.look_at_installation({"permissions": granted}), named, "/permissions", "and again")
        run.look_at_installation({"permissions": all_})

    def test_a_proof_that_fails(self):
        run = begun()
        with mock.patch.object(setup.web, "send", return_value=Answer(401, {}, b'{"message": "wrong"}')):
            self.fails(run.ping, "a signed ping with 401: wrong", "/aws/lambda/runners/webhook")
        with mock.patch.object(setup.web, "send", return_value=Answer(503, {}, b"{}")), mock.patch.object(setup, "PING_SECONDS", -1):
            self.fails(run.ping, "a signed ping with 503", "/aws/lambda/runners/webhook")
        with mock.patch.object(setup, "DELIVERY_SECONDS", 0):
            for status, why in ((401, "the secrets differ"), (0, "it gets no answer"), (503, "the webhook's log says why")):
                run.github.deliveries = mock.Mock(return_value=[{"id": 1, "event": "ping", "status_code": status}])
                run.github.redeliver = mock.Mock()
                self.fails(run.github_reaches_us, why, "/advanced")
        for status, fix in ((404, "a runner group 1, open to the App"), (403, "Self-hosted runners: read and write"), (500, "githubstatus")):
            run.github.mint_and_delete = mock.Mock(side_effect=refused(status))
            self.fails(lambda: run.mint(4), "no runner can be registered", fix)


    def test_a_webhook_that_was_deployed_a_moment_ago(self):
        run, answers = begun(), [Answer(status, {}, b"{}") for status in (403, 503, 200)]
        with mock.patch.object(setup.web, "send", side_effect=answers) as send, mock.patch.object(setup, "POLL_SECONDS", 0):
            run.ping()
        self.assertEqual(send.call_count, 3)


class Asked(unittest.TestCase):
    def test_what_the_app_may_do_is_what_the_manifest_says(self):
        few, runs = "read Actions,", "read and write Actions"
        for given, said, unsaid in (({}, [few], [runs, "Checks", "administer"]), ({"RunnerScope": "repo"}, [few, "administer repositories"], [runs]), ({"RerunInterrupted": "1"}, [runs], [few, "Checks"]),
                                    ({"RerunInterrupted": "1", "CheckRuns": "true"}, [runs, "read and write Checks"], [few])):
            run = begun()
            run.parameters, run.page.address, run.page.state = given, "http://127.0.0.1:1/x", "state"
            run.show_button()
            for place, text in (("page", run.page.show.call_args[0][1]), ("file", run.page.owner_page.split("<form")[0])):
                with self.subTest(given=given, place=place):
                    self.assertIn("and nothing else", text)
                    for words in ["manage self-hosted runners", *said]:
                        self.assertIn(words, text)
                    for words in unsaid:
                        self.assertNotIn(words, text)


class AfterTheProof(unittest.TestCase):
    def test_warnings_are_told(self):
        for status, end in (("warn", "1 checks, none fails"), ("fail", "1 checks, 1 fail"), ("ok", "1 checks, none fails")):
            run = begun()
            run.ping = run.github_reaches_us = run.mint = mock.Mock()
            report = [{"id": "alarms", "status": status, "what": "alarms tell somebody", "found": "they tell nobody", "fix": "FIX"}]
            with self.subTest(status=status), mock.patch.object(setup.doctor, "examine", return_value=report), \
                    mock.patch.object(setup, "say") as say:
                run.prove(4)
            told = "\n".join(call[0][0] for call in say.call_args_list)
            self.assertIn(end, told)
            self.assertEqual("FIX" in told, status != "ok")


class Addresses(unittest.TestCase):
    def test_each_github_has_its_own(self):
        for host, api in (("https://github.com", "https://api.github.com"), ("https://acme.ghe.com", "https://api.acme.ghe.com"),
                          ("https://github.acme.test/", "https://github.acme.test/api/v3"), ("http://127.0.0.1:7", "http://127.0.0.1:7")):
            with self.subTest(host=host):
                github, people = GitHub(host), host.rstrip("/")
                self.assertEqual((github.api, deep.of_api(github.api)), (api, people))
                self.assertEqual(github.new_app_url("acme", "s"), f"{people}/organizations/acme/settings/apps/new?state=s")
                self.assertEqual(github.approvals("acme"), f"{people}/organizations/acme/settings/installations")

    def test_the_stack_is_told_of_it(self):
        for host, told in (("https://github.com", {}), ("https://github.acme.test", {"GitHubApiUrl": "https://github.acme.test/api/v3"})):
            run = begun(github=host)
            run.stack.settled.return_value, run.stack.unusable.return_value = None, ""
            run.stack.deploy.side_effect = Failure("enough")
            with self.assertRaisesRegex(Failure, "enough"):
                run.deploy()
            self.assertEqual(run.stack.deploy.call_args[0][0], {"Organization": "acme"} | told)

    def test_parameters_of_ones_own_go_with_the_first_deployment(self):
        with mock.patch.dict("os.environ", PARAMETERS="FrontDoor=http-api SubnetIds=subnet-1,subnet-2"):
            self.assertEqual(stack.deploy_command("runners", {"Organization": "acme"})[-2:],
                             ["STACK=runners", "PARAMETERS=Organization=acme FrontDoor=http-api SubnetIds=subnet-1,subnet-2"])
        with mock.patch.dict("os.environ", PARAMETERS=""):
            self.assertEqual(stack.deploy_command("runners", {"Organization": "acme"})[-1], "PARAMETERS=Organization=acme")

    def test_no_key_travels_in_the_clear(self):
        for host in ("http://github.acme.test", "github.acme.test", "https://github.acme.test/x", "https://a b"):
            with self.subTest(host=host), mock.patch("sys.argv", ["setup", "--org", "acme", "--github", host]), \
                    mock.patch("sys.stderr"), self.assertRaises(SystemExit):
                setup.options()

class TheEnd(unittest.TestCase):
    def test_an_answer_that_was_on_its_way_is_not_taken_for_a_look_at_the_end(self):
        """The browser asks, the last page is shown, and only then the browser gets its answer: it comes once more."""
        with Page() as page:
            page.show(3, "Proving it", waits=True)
            answering, shown, render = threading.Event(), threading.Event(), page.render

            def slowly(view):
                answer = render(view)
                answering.set()
                shown.wait(10)
                return answer

            page.render = slowly
            with ThreadPoolExecutor() as threads:
                look = threads.submit(lambda: urlopen(page.url, timeout=10).read().decode())
                answering.wait(10)
                end = threads.submit(page.show_last, 5, "The end")
                while page.view.text != "The end":
                    pass
                shown.set()
                self.assertIn("Proving it", look.result())
                with self.assertRaises(NotDone, msg="nobody has seen the end"):
                    end.result(timeout=1)
                self.assertIn("The end", urlopen(page.url, timeout=10).read().decode())
                end.result(timeout=5)


if __name__ == "__main__":
    unittest.main()

"""What `make deploy` takes for the names of what a stack keeps is what the template gives it."""

import sys
import unittest

from lint import COMBINATIONS
from policies import PSEUDO, Stack
from test_policies import MODES, TEMPLATE

sys.path.append(str(TEMPLATE.parent / "ops"))

import names  # noqa: E402


class Names(unittest.TestCase):
    def test_each_that_is_kept_and_no_other(self):
        template = names.template()
        for mode, parameters in (MODES | COMBINATIONS).items():
            stack = Stack(TEMPLATE, **parameters)
            kept = {name: it for name, it in stack.template["Resources"].items() if "DeletionPolicy" in it and stack.creates(name)}
            wanted = {(it["Type"], stack.resolve(it["Properties"])[names.NAMED[it["Type"]]]) for it in kept.values()}
            with self.subTest(mode=mode):
                self.assertEqual(names.kept(PSEUDO["AWS::StackName"], parameters, template), wanted)
                self.assertGreater(len(wanted), 0)

    def test_the_name_in_an_id(self):
        for kind, id_, name in (("AWS::SQS::Queue", "https://sqs.eu-west-1.amazonaws.com/111122223333/jobs", "jobs"),
                                ("AWS::SecretsManager::Secret", "arn:aws-cn:secretsmanager:cn-north-1:1:secret:stack/github-AbC123", "stack/github"),
                                ("AWS::Logs::LogGroup", "/ecs/runners", "/ecs/runners"), ("AWS::ECR::Repository", "runners", "runners")):
            self.assertEqual(names.of(kind, id_), name)


if __name__ == "__main__":
    unittest.main()

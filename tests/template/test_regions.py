"""Where the stack can be deployed."""

import unittest

from lint import COMBINATIONS, missing, transformed
from policies import Stack
from test_policies import TEMPLATE


class Regions(unittest.TestCase):
    def test_the_combinations_try_every_condition_both_ways(self):
        stacks = [Stack(TEMPLATE, **parameters) for parameters in COMBINATIONS.values()]
        for condition in stacks[0].template["Conditions"]:
            with self.subTest(condition=condition):
                self.assertEqual({stack.holds(condition) for stack in stacks}, {True, False})

    def test_function_urls_are_all_that_some_regions_lack(self):
        lacks = missing(transformed(COMBINATIONS["as it comes"]))
        self.assertEqual({kind for types in lacks.values() for kind in types}, {"AWS::Lambda::Url"})
        self.assertLessEqual({"us-gov-west-1", "us-gov-east-1", "cn-northwest-1", "ca-west-1"}, lacks.keys())

    def test_behind_an_http_api_it_runs_everywhere(self):
        for name in ("HTTP API", "everything"):
            with self.subTest(combination=name):
                self.assertEqual(missing(transformed(COMBINATIONS[name])), {})

    def test_the_image_pipeline_needs_codebuild(self):
        lacks = missing(transformed(COMBINATIONS["image pipeline"]))
        self.assertEqual({kind for types in lacks.values() for kind in types}, {"AWS::CodeBuild::Project"})

    def test_a_budget_needs_budgets(self):
        lacks = missing(transformed(COMBINATIONS["a budget"]))
        self.assertEqual({kind for types in lacks.values() for kind in types}, {"AWS::Budgets::Budget"})


if __name__ == "__main__":
    unittest.main()

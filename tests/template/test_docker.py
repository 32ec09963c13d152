"""What jobs with Docker run on: ECS takes it as it is, and the daemon and the runner see the same."""

import unittest

import botocore.session
from botocore.validate import ParamValidator

from policies import Stack
from test_policies import MODES, TEMPLATE

ECS = botocore.session.get_session().get_service_model("ecs")
MODE = MODES["Docker class"] | {"Organization": "acme"}


def for_the_api(value, shape):
    """CloudFormation's words as ECS's: the same with a small letter in front; numbers may be text there."""
    if shape.type_name == "structure":
        members = {name[0].upper() + name[1:]: name for name in shape.members}
        return {members[key]: for_the_api(part, shape.members[members[key]]) for key, part in value.items()}
    if shape.type_name == "list":
        return [for_the_api(part, shape.member) for part in value]
    if getattr(shape, "enum", None) and value not in shape.enum:
        raise AssertionError(f"{value} is none of {shape.enum}")
    return value


class Docker(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = Stack(TEMPLATE, **MODE)
        cls.resources = cls.stack.template["Resources"]
        cls.definition = cls.properties("TaskDefinitionDocker")
        cls.containers = {it["Name"]: it for it in cls.definition["ContainerDefinitions"]}

    @classmethod
    def properties(cls, name):
        return cls.stack.resolve(cls.resources[name]["Properties"])

    def test_ecs_takes_them(self):
        for operation, name in (("RegisterTaskDefinition", "TaskDefinitionDocker"), ("RegisterTaskDefinition", "TaskDefinition"),
                                ("CreateCapacityProvider", "DockerCapacity")):
            with self.subTest(resource=name):
                shape = ECS.operation_model(operation).input_shape
                properties = self.properties(name)
                if name == "DockerCapacity":
                    properties = {"Name": "x", "Cluster": properties.pop("ClusterName"), **properties}
                report = ParamValidator().validate(for_the_api(properties, shape), shape)
                self.assertFalse(report.has_errors(), report.generate_report())

    def test_the_daemon_and_nothing_else_is_privileged(self):
        privileged = {(name, container["Name"]) for name, it in self.resources.items() if it["Type"] == "AWS::ECS::TaskDefinition"
                      for container in self.properties(name)["ContainerDefinitions"] if container.get("Privileged")}
        self.assertEqual(privileged, {("TaskDefinitionDocker", "docker")})

    def test_the_daemon_sees_what_the_runner_sees_and_is_there_before_it(self):
        docker, runner, prepare = (self.containers[name] for name in ("docker", "runner", "prepare"))
        self.assertEqual(docker["MountPoints"], runner["MountPoints"])
        self.assertEqual({it["SourceVolume"] for it in runner["MountPoints"]}, {it["Name"] for it in self.definition["Volumes"]})
        waits = {it["ContainerName"]: it["Condition"] for it in runner["DependsOn"]}
        self.assertEqual(waits, {"prepare": "SUCCESS", "docker": "HEALTHY"})
        self.assertIs(prepare["Essential"], False, "it ends first, and the task goes on")
        self.assertTrue(docker["Essential"] and runner["Essential"])
        socket = next(it["Value"] for it in runner["Environment"] if it["Name"] == "DOCKER_HOST")
        self.assertIn(f"--host={socket}", docker["Command"])

    def test_the_runner_is_the_ordinary_one(self):
        ordinary, = self.properties("TaskDefinition")["ContainerDefinitions"]
        for key in ("Name", "Image", "Command", "User", "StopTimeout", "LogConfiguration"):
            self.assertEqual(self.containers["runner"][key], ordinary[key], key)

    def test_one_job_an_instance(self):
        """Two would not fit on one: whoever has the daemon has the instance."""
        wants = self.properties("DockerCapacity")["ManagedInstancesProvider"]["InstanceLaunchTemplate"]["InstanceRequirements"]
        self.assertGreater(2 * int(self.definition["Cpu"]), wants["VCpuCount"]["Max"] * 1024)
        self.assertLess(int(self.definition["Memory"]), wants["MemoryMiB"]["Min"], "ECS's agent needs some too")

    def test_nothing_of_it_is_made_unless_it_is_asked_for(self):
        stack = Stack(TEMPLATE, Organization="acme")
        of_it = {name for name in self.resources if "Docker" in name}
        self.assertEqual(len(of_it), 5, of_it)
        self.assertEqual({name for name in of_it if stack.creates(name)}, set())
        self.assertTrue(all(self.stack.creates(name) for name in of_it))


if __name__ == "__main__":
    unittest.main()

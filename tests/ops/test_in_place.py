"""Every parameter that may be changed while runners work is changed, with a task at work and a job that waits: both are still
there. What would strand them is refused (test_ops.py)."""

import unittest

from local import STACK, LocalStack

import deploy as deploying
import stack as stacks
import stop as stopping

ROLE, TOPIC = "arn:aws:iam::000000000000:role/somebody", "arn:aws:sns:us-east-1:000000000000:topic"
GIVEN = {"Organization": "octo-org", "GitHubSecretArn": "", "MaxRunners": "0", "AlarmTopicArn": "",
         "SubnetIds": "subnet-0123456789abcdef0", "SecurityGroupIds": "sg-0123456789abcdef0"}
UPDATES = [
    {"RunnerLabels": "self-hosted,ours", "AllowedRepositories": "octo-org/*", "AllowPublicRepositories": "true", "MaxRunners": "7",
     "MaxRunnersPerRepository": "3", "RunnerClasses": "s3://octo-settings/classes.json",
     "MaxCpu": "8", "MaxMemory": "60", "MaxDisk": "100", "MaxAttempts": "3", "IdleTimeoutSeconds": "900", "WarmPoolSize": "1",
     "RerunInterrupted": "0", "CheckRuns": "true",
     "Capacity": "FARGATE_SPOT,FARGATE", "RunnerGroupId": "2", "LogRetentionDays": "7",
     "GitHubApiUrl": "https://ghe.example.com/api/v3", "DispatchMaxConcurrency": "3", "WebhookReservedConcurrency": "5",
     "SubnetIds": "subnet-0123456789abcdef1", "SecurityGroupIds": "sg-0123456789abcdef1", "AssignPublicIp": "DISABLED",
     "AlarmTopicArn": TOPIC, "TicketTopicArn": f"{TOPIC}-2", "EventBusPutterArns": ROLE, "QueueOperatorArns": ROLE,
     "TaskPolicyArns": "arn:aws:iam::aws:policy/ReadOnlyAccess", "TaskPoliciesForDefaultGroup": "true"},
    {"TaskCpu": "512", "TaskMemory": "4096", "RunnerImage": "example.com/runner:1", "EnableArm64": "true", "ContainerName": "other",
     "RunnerLogClass": "INFREQUENT_ACCESS", "RuleName": "second", "EventBusName": "second", "TaskDefinitionFamily": "second"},
    {"VcpusAnHour": "64", "HttpsProxy": "http://proxy.test:3128", "NoProxy": "localhost"},
    {"FrontDoor": "http-api", "WarmPoolSize": "0", "RunnerScope": "repo", "Organization": "*"},
]
# What is changed for an account's sake, and not while runners work; or what is there, instead of what was made.
ONCE = {"Mode", "GitHubSecretArn", "AccessTokenSecretArn", "RepositoryCredentialsArn", "EnableImagePipeline", "FunctionSubnetIds",
        "FunctionSecurityGroupIds", "PermissionsBoundaryArn", "SecretKmsKeyArn", "CreateTaskDefinition", "PassRoleArns",
        "CreateEventBus", "WebhookSecretArn", "CaCertificates", "Architecture", "MonthlyBudget", "EnableDockerClass",
        "DockerImage"}


class InPlace(LocalStack):
    def test_every_parameter(self):
        tried = {name for update in UPDATES for name in update}
        self.assertEqual(tried | ONCE | set(deploying.STRANDS), set(deploying.defined()), "a new one wants a place")
        self.deploy(GIVEN)
        found = stacks.find(self.client, STACK)
        cluster, task = self.start_task()
        queue = stacks.outputs(found)["JobQueueUrl"]
        # A job that waits, as it does while GitHub has trouble.
        stopping.pause(self.client, stacks.outputs(found)["DispatchFunctionName"])
        self.client("sqs").send_message(QueueUrl=queue, MessageBody="a job that waits")
        for update in UPDATES:
            self.deploy(update)
            found = stacks.find(self.client, STACK)
            self.assertEqual(stacks.parameters(found) | update, stacks.parameters(found))
            self.assertEqual((stacks.outputs(found)["ClusterName"], stacks.outputs(found)["JobQueueUrl"]), (cluster, queue))
            self.assertEqual(stacks.tasks(self.client, found), [task], update)
            self.assertEqual(stacks.messages(self.client, queue), 1, update)


if __name__ == "__main__":
    unittest.main()

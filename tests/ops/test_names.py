"""What a change left behind keeps its name: a change that needs the name again is refused before anything is built, until
what is in the way is deleted."""

import unittest

from local import STACK, LocalStack
from test_in_place import GIVEN

import stack as stacks

LOG = "/ecs/gha-jit-self-hosted-fargate-runner"


class Left(LocalStack):
    def refused(self, given, *words):
        with self.assertRaises(stacks.Failure) as refused:
            self.deploy(given)
        for word in words:
            self.assertIn(word, str(refused.exception))
        self.assertEqual(self.sent, [])

    def test_there_and_back(self):
        secrets, logs = self.client("secretsmanager"), self.client("logs")
        self.deploy(GIVEN)
        self.deploy()
        given = secrets.create_secret(Name="given", SecretString="x")["ARN"]
        self.deploy({"RunnerLogClass": "INFREQUENT_ACCESS", "WebhookSecretArn": given, "EnableReconcile": "false"})
        self.refused({"RunnerLogClass": "STANDARD"}, f"log group {LOG}. ", f"aws logs delete-log-group --log-group-name {LOG}.")
        self.refused({"WebhookSecretArn": ""}, f"secret {STACK}/webhook-secret", f"--secret-id {STACK}/webhook-secret")
        self.refused({"EnableReconcile": "true"}, "queue git-actions-wf-job-queue-author", "queue git-actions-wf-job-queue-lifecycle",
                     f"log group /aws/lambda/{STACK}/reconcile", "aws sqs delete-queue --queue-url $(")
        logs.delete_log_group(logGroupName=LOG)
        secrets.delete_secret(SecretId=f"{STACK}/webhook-secret", ForceDeleteWithoutRecovery=True)
        self.deploy({"RunnerLogClass": "STANDARD", "WebhookSecretArn": ""})
        self.client("ecr").create_repository(repositoryName="gha-jit-self-hosted-fargate-runner-tools")
        self.refused({"EnableImagePipeline": "true"}, "repository gha-jit-self-hosted-fargate-runner-tools", "aws ecr delete-repository")


if __name__ == "__main__":
    unittest.main()

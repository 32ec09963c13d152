"""Twenty runner classes in one document in S3, on a local AWS: the template's own policies and variables, the compiled function, and
which class each job got."""

import json
import unittest

import local  # noqa: F401 - finds the rest
from demo import GitHub, Job, ORGANIZATION, RUNS, payload_of
from local_aws import LocalAws

BUCKET, KEY, CLASSES = "octo-settings", "runners/classes.json", 20


def document(version):
    classes = [{"name": f"class-{nth}", "labels": [f"kind-{nth}"], "default_size": {"cpu": 1024, "memory": 2048 + 1024 * (nth % 4)},
                "capacity": ["FARGATE_SPOT" if nth % 2 else "FARGATE"]} for nth in range(CLASSES)]
    return json.dumps({"version": version, "classes": classes})


class Classes(unittest.TestCase):
    def test_each_job_gets_its_class(self):
        with LocalAws() as aws, GitHub(aws.log) as github:
            s3 = aws.client("s3")
            s3.create_bucket(Bucket=BUCKET)
            s3.put_object(Bucket=BUCKET, Key=KEY, Body=document(7).encode())
            stack = aws.deploy({"Organization": ORGANIZATION, "GitHubApiUrl": github.url, "RunnerClasses": f"s3://{BUCKET}/{KEY}"})
            aws.client("secretsmanager").put_secret_value(SecretId=stack["GitHubSecretArn"], SecretString=github.credentials())
            lambdas, got = aws.client("lambda"), {}
            for nth in range(CLASSES):
                payload = payload_of(Job(3_000_000_000 + nth, f"job-{nth}", ("self-hosted", f"kind-{nth}"), RUNS))
                github.set_job(payload)
                answer = lambdas.invoke(FunctionName=stack["DispatchFunctionName"], Payload=json.dumps(payload).encode())
                answer = json.loads(answer["Payload"].read())
                self.assertEqual(answer.get("outcome"), "done", answer)
            ecs, cluster = aws.client("ecs"), stack["ClusterName"]
            arns = ecs.list_tasks(cluster=cluster)["taskArns"]
            for task in ecs.describe_tasks(cluster=cluster, tasks=arns, include=["TAGS"])["tasks"]:
                tags = {tag["key"]: tag["value"] for tag in task["tags"]}
                self.assertEqual(tags["gha:classes-version"], "7")
                got[tags["gha:job-name"]] = tags["gha:class"]
                print(f"{tags['gha:job-name']}: {tags['gha:class']}, {task['overrides'].get('memory', '?')} MiB")
            self.assertEqual(got, {f"job-{nth}": f"class-{nth}" for nth in range(CLASSES)})


if __name__ == "__main__":
    unittest.main()

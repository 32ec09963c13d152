"""May the roles do what they must? A check of the doctor: AWS simulates their policies, boundaries and the organisation's
own policies included."""

from finding import check


def roles_may(seen):
    iam = seen.client("iam")
    for name, role, actions in needs(seen):
        for resource, context, wanted in actions:
            asked = {"PolicySourceArn": role, "ActionNames": wanted}
            if resource:
                asked["ResourceArns"] = [resource]
            if context:
                asked["ContextEntries"] = [{"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
                                           for key, value in context.items()]
            results = iam.simulate_principal_policy(**asked)["EvaluationResults"]
            denied = [it for it in results if it["EvalDecision"] != "allowed"]
            if denied:
                yield check("roles", "fail", f"the role of {name} may do its work",
                            f"{role.rsplit('/', 1)[-1]} may not {', '.join(it['EvalActionName'] for it in denied)} on {resource or '*'}",
                            because(denied[0], role))
    yield check("roles", "ok", "the functions' roles may do their work")


def because(result, role):
    """What has to be changed, by what denies it."""
    if result.get("OrganizationsDecisionDetail", {}).get("AllowedByOrganizations") is False:
        return "a service control policy of your organisation in AWS denies it: its administrators can except the role"
    if result.get("PermissionsBoundaryDecisionDetail", {}).get("AllowedByPermissionsBoundary") is False:
        return "the permissions boundary (PermissionsBoundaryArn) denies it: allow it there"
    return f"somebody changed the policy of {role.rsplit('/', 1)[-1]}: make repair"


def needs(seen):
    """(function, role, [(resource, what AWS knows about the request, actions)]), of the functions that the stack has."""
    sqs = seen.client("sqs")

    def queue(output, *actions):
        """Of a queue that is the stack's own."""
        if output not in seen.outputs:
            return []
        asked = {"QueueUrl": seen.outputs[output], "AttributeNames": ["QueueArn"]}
        return [(sqs.get_queue_attributes(**asked)["Attributes"]["QueueArn"], {}, list(actions))]

    definition = seen.client("ecs").describe_task_definition(taskDefinition=seen.families()[0][0])["taskDefinition"]
    _, partition, _, region, account, _ = definition["taskDefinitionArn"].split(":", 5)

    def arn(service, resource):
        return f"arn:{partition}:{service}:{region}:{account}:{resource}"

    here = {"ecs:cluster": arn("ecs", f"cluster/{seen.outputs['ClusterName']}")}
    task = arn("ecs", f"task/{seen.outputs['ClusterName']}/0123456789abcdef")
    looks = [(None, here, ["ecs:ListTasks"]), (task, {}, ["ecs:DescribeTasks"])]
    receives = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"]
    secret = [(it, {}, ["secretsmanager:GetSecretValue"]) for it in seen.outputs.get("GitHubSecretArn", "").split(",") if it]
    passed = [(it, {"iam:PassedToService": "ecs-tasks.amazonaws.com"}, ["iam:PassRole"])
              for it in (definition.get("taskRoleArn"), definition.get("executionRoleArn")) if it]
    tells = queue("AuthorQueueUrl", "sqs:SendMessage")
    announces = [*queue("JobQueueUrl", "sqs:SendMessage"), *queue("JobDeadLetterQueueUrl", "sqs:SendMessage")]
    document = seen.parameters.get("RunnerClasses", "")
    reads = [(f"arn:{partition}:s3:::{document[5:]}", {}, ["s3:GetObject"])] if document.startswith("s3://") else []
    starts = [*passed, (definition["taskDefinitionArn"], here, ["ecs:RunTask"]),
              (task, {"ecs:CreateAction": "RunTask"}, ["ecs:TagResource"])]
    of_function = {
        "webhook": lambda: [(seen.outputs["WebhookSecretArn"], {}, ["secretsmanager:GetSecretValue"]),
                            (arn("events", f"event-bus/{seen.outputs['EventBusName']}"), {}, ["events:PutEvents"]), *reads],
        "dispatch": lambda: [*secret, *starts, *looks, *tells, *reads, *announces, *queue("JobQueueUrl", *receives)],
        "reconcile": lambda: [*secret, *looks, *tells, *reads, *announces, *queue("LifecycleQueueUrl", *receives),
                              (task, {}, ["ecs:StopTask", "ecs:TagResource"])],
        "author": lambda: [*secret, *looks, *tells, *queue("AuthorQueueUrl", *receives)],
        "redeliver": lambda: secret,
    }
    for name in seen.functions():
        yield name, seen.function(name)["Role"], of_function[name]()


CHECKS = [roles_may]

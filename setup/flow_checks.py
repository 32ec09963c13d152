"""Does what GitHub says reach the functions, and do they run? Checks of the doctor."""

import json
from collections import Counter
from datetime import datetime, timedelta, timezone

from botocore.exceptions import ClientError

from finding import FUNCTIONS, SAME_CODE, Absent, check

QUEUES = {"JobQueueUrl": "JobDeadLetterQueueUrl", "LifecycleQueueUrl": "LifecycleDeadLetterQueueUrl"}
# Each of the stack's rules: what it is for, on which bus, if not the stack's, and its target, a queue or a function.
WAYS = {
    "JobQueuedRule": ("queued jobs go to the job queue", None, "JobQueueUrl"),
    "JobLifecycleRule": ("jobs that are taken or over go to the lifecycle queue", None, "LifecycleQueueUrl"),
    "TaskStoppedRule": ("stopped tasks go to the lifecycle queue", "default", "LifecycleQueueUrl"),
    "SweepRule": ("the sweep goes to the lifecycle queue", "default", "LifecycleQueueUrl"),
    "RedeliveryRule": ("the look for failed deliveries goes to its function", "default", "redeliver"),
}
# The alarms JobsWait and LifecycleWaits.
LONG = 900


def functions_run(seen):
    functions = seen.client("lambda")
    for name in seen.functions():
        found = seen.function(name)
        name = found["FunctionName"]
        state, update = found.get("State", "Active"), found.get("LastUpdateStatus", "Successful")
        if state == "Failed" or update == "Failed":
            yield check("functions", "fail", "the functions are active", f"{name}: {state}, last update {update}", "make deploy")
            continue
        reserved = functions.get_function_concurrency(FunctionName=name).get("ReservedConcurrentExecutions")
        if reserved == 0:
            yield check("functions", "fail", "the functions may run", f"{name} is stopped", "make resume")
    yield check("functions", "ok", "the functions are active")


def code_is_of_one_release(seen):
    what = "the functions are of the stack's release"
    told = json.loads(seen.outputs.get("Release", "{}"))
    for name in seen.functions():
        found = seen.function(name)
        architecture = found.get("Architectures", ["x86_64"])[0]
        zipped = f"{SAME_CODE.get(name, name)}-{architecture}"
        wanted = told.get("code", {}).get(zipped)
        if wanted is None:
            yield check("code", "warn", what, "the stack does not say what was deployed: it is of before releases did",
                        "make deploy")
            return
        if wanted != found["CodeSha256"]:
            yield check("code", "fail", what, f"{found['FunctionName']} has other code than release {told['version']} of the stack",
                        f"aws lambda update-function-code --function-name {found['FunctionName']} --zip-file "
                        f"fileb://dist/{zipped}.zip, of that release; or make deploy of another")
    yield check("code", "ok", f"{what} ({told.get('version')})")


def messages_reach_functions(seen):
    functions, what = seen.client("lambda"), "the queues' messages go to the functions"
    queues = {"dispatch": "JobQueueUrl", "reconcile": "LifecycleQueueUrl", "author": "AuthorQueueUrl"}
    for name, queue in queues.items():
        if name not in seen.functions():
            continue
        function = seen.outputs[FUNCTIONS[name]]
        mappings = functions.list_event_source_mappings(FunctionName=function)["EventSourceMappings"]
        if not mappings:
            yield check("mappings", "fail", what, f"{function} has no queue",
                        f"aws lambda create-event-source-mapping --function-name {function} --event-source-arn {arn(seen, queue)} "
                        "--batch-size 10 --function-response-types ReportBatchItemFailures")
        for mapping in mappings if name != "author" or seen.tells_authors() else []:
            if mapping["State"] not in ("Enabled", "Enabling", "Creating", "Updating"):
                yield check("mappings", "fail", what, f"{function}: {mapping['State']}",
                            f"aws lambda update-event-source-mapping --uuid {mapping['UUID']} --enabled")
    yield check("mappings", "ok", what)


def arn(seen, output):
    found = seen.client("sqs").get_queue_attributes(QueueUrl=seen.outputs[output], AttributeNames=["QueueArn"])
    return found["Attributes"]["QueueArn"]


def events_reach_queues(seen):
    """By the stack's own rules: a bus that was given may have others, and what fills a queue that was given is its owner's."""
    events, rules, bus = seen.client("events"), seen.resources("AWS::Events::Rule"), seen.outputs["EventBusName"]
    for logical, (what, on, target) in WAYS.items():
        if logical not in rules:
            continue
        wanted = seen.function(target)["FunctionArn"] if target in FUNCTIONS else arn(seen, target)
        name, on = rules[logical].rsplit("|", 1)[-1], on or bus
        try:
            rule = events.describe_rule(Name=name, EventBusName=on)
            targets = events.list_targets_by_rule(Rule=name, EventBusName=on)["Targets"]
        except events.exceptions.ResourceNotFoundException:
            yield check("rules", "fail", what, f"there is no rule {name} on the bus {on}", "make repair")
            continue
        if rule["State"] == "DISABLED":
            yield check("rules", "fail", what, f"the rule {name} is disabled", f"aws events enable-rule --name {name} --event-bus-name {on}")
        elif wanted not in [it["Arn"] for it in targets]:
            yield check("rules", "fail", what, f"the rule {name} has another target, or none",
                        # These rules change what they pass on, which takes more than a target.
                        "make repair" if logical in ("TaskStoppedRule", "RedeliveryRule") else
                        f"aws events put-targets --rule {name} --event-bus-name {on} --targets Id=queue,Arn={wanted}")
    yield check("rules", "ok", "events go to the queues, and the look for failed deliveries to its function")


def only_the_webhook_may_put(seen):
    what = "nobody but the webhook puts events on the bus"
    if seen.parameters.get("CreateEventBus") == "false":
        raise Absent("EventBus")  # whose policy is its owner's
    bus = seen.outputs["EventBusName"]
    policy = json.loads(seen.client("events").describe_event_bus(Name=bus).get("Policy") or "{}")
    role = seen.function("webhook")["Role"]

    def puts(effect):
        return [it for it in policy.get("Statement", []) if it["Effect"] == effect and it["Action"] == "events:PutEvents"]

    allowed = [json.dumps(it.get("Principal")) for it in puts("Allow")]
    if not any(role in it for it in allowed):
        yield check("bus-policy", "fail", "the webhook may put events on the bus", f"the policy of {bus} does not name {role}", "make repair")
    elif not puts("Deny"):
        yield check("bus-policy", "warn", what, f"the policy of {bus} denies nobody, so whoever may events:PutEvents starts runners",
                    "make repair")
    yield check("bus-policy", "ok", what)


def messages_do_not_wait(seen):
    what, now = "messages do not wait long", datetime.now(timezone.utc)
    for output, alarm in (("JobQueueUrl", "jobswait"), ("LifecycleQueueUrl", "lifecyclewaits")):
        queue = seen.outputs[output].rsplit("/", 1)[-1]
        points = seen.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/SQS", MetricName="ApproximateAgeOfOldestMessage", Dimensions=[{"Name": "QueueName", "Value": queue}],
            StartTime=now - timedelta(minutes=10), EndTime=now + timedelta(minutes=1), Period=300, Statistics=["Maximum"])["Datapoints"]
        oldest = max((point["Maximum"] for point in points), default=0)
        if oldest > LONG:
            yield check("queues", "warn", what, f"the oldest in {queue} waits for {oldest / 60:.0f} min",
                        f"docs/operate.md#{alarm}: the saved query \"why jobs wait\" names the reason")
    yield check("queues", "ok", what)


def nothing_is_dead(seen):
    sqs, what = seen.client("sqs"), "no message was given up"
    for queue, dead in QUEUES.items():
        url = seen.outputs[dead]
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages", "QueueArn"])["Attributes"]
        if int(found["ApproximateNumberOfMessages"]):
            yield check("dead-letters", "warn", what,
                        f"{found['ApproximateNumberOfMessages']} in {url.rsplit('/', 1)[-1]}: {reasons(sqs, url)}",
                        # Of what was sent there, and not redriven, SQS knows no source.
                        f"mend that, then aws sqs start-message-move-task --source-arn {found['QueueArn']} --destination-arn "
                        f"{arn(seen, queue)}")
    yield check("dead-letters", "ok", what)


def reasons(sqs, url):
    """How often each reason is given, by a look at ten of them that leaves them where they are."""
    try:
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0,
                                       MessageAttributeNames=["reason"]).get("Messages", [])
    except ClientError:
        return "why, tells the attribute reason, which only QueueOperatorArns may read, and the saved query \"rejected\""
    counted = Counter(it.get("MessageAttributes", {}).get("reason", {}).get("StringValue", "no reason given") for it in messages)
    return "; ".join(f"{count} x {reason}" for reason, count in counted.most_common()) or "they are being looked at right now"


def alarms_tell_somebody(seen):
    found = seen.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{seen.stack.name}-")["MetricAlarms"]
    if not found:
        yield check("alarms", "fail", "there are alarms", "none of this stack", "make repair")
        return
    for alarm in found:
        if alarm["StateValue"] == "ALARM":
            yield check("alarms", "warn", "no alarm rings", alarm["AlarmName"], alarm.get("AlarmDescription", "").strip())
    if silent := [alarm["AlarmName"] for alarm in found if alarm.get("ActionsEnabled") is False]:
        yield check("alarms", "warn", "alarms tell somebody", f"switched off: {', '.join(silent)}",
                    f"aws cloudwatch enable-alarm-actions --alarm-names {' '.join(silent)}")
    topics = {action for alarm in found for action in alarm["AlarmActions"]}
    if not topics:
        yield check("alarms", "warn", "alarms tell somebody", "they tell nobody", "make deploy with AlarmTopicArn")
    for topic in topics:
        told = seen.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
        if not [it for it in told if it["SubscriptionArn"].startswith("arn:")]:
            yield check("alarms", "warn", "alarms tell somebody", f"{topic} has no subscriber that has confirmed",
                        f"aws sns subscribe --topic-arn {topic} --protocol email --notification-endpoint you@example.com")
    yield check("alarms", "ok", "there are alarms, and they tell somebody")


CHECKS = [functions_run, code_is_of_one_release, messages_reach_functions, events_reach_queues, only_the_webhook_may_put,
          messages_do_not_wait, nothing_is_dead, alarms_tell_somebody]

"""Stops a deployed stack, drains it, and lets it go on: what `make stop`, `make drain` and `make resume` run."""

import os
import sys
import time

import stack as stacks

# Those that start tasks. The webhook goes on: what GitHub tells it meanwhile waits on the queues, for a day.
RECONCILE = "ReconcileFunctionName"
FUNCTIONS = ["DispatchFunctionName", RECONCILE]
# The longest that a function goes on that was at work (reconcile's time-out in template.yaml).
AT_WORK_SECONDS = 120
LOOK_AGAIN_SECONDS = 30
# The least that reconcile takes: a runner that is idle for a minute is retired by the next sweep.
SHORTEST_IDLE_SECONDS = "60"
# What reconcile is told of it (docs/settings.md).
DRAINED = "DRAINED"


def stop(client, stack, at_work=AT_WORK_SECONDS):
    """No function starts a task any more, and every task is stopped. Yields what was done."""
    found = stacks.get(client, stack)
    of_stack = stacks.outputs(found)
    for function in there(of_stack):
        yield pause(client, of_stack[function])
    ecs, cluster = client("ecs"), of_stack["ClusterName"]
    until = time.monotonic() + at_work
    while True:
        last = time.monotonic() >= until
        for task in alive(client, found):
            ecs.stop_task(cluster=cluster, task=task, reason="make stop")
            yield f"stopped {task}"
        if last:
            return
        yield f"looking again in {LOOK_AGAIN_SECONDS} s: a function that was at work may have started one more"
        time.sleep(LOOK_AGAIN_SECONDS)


def drain(client, stack, idle=False, at_work=AT_WORK_SECONDS, look_again=LOOK_AGAIN_SECONDS):
    """No job gets a runner any more, and no job that has one is disturbed: returns when the last task is over.

    Reconcile goes on. It retires runners that stay idle, after IdleTimeoutSeconds or, with `idle`, after a minute:
    by GitHub's answer, so that none that has just taken a job is stopped. No pool is filled up any more.
    """
    found = stacks.get(client, stack)
    of_stack = stacks.outputs(found)
    yield pause(client, of_stack["DispatchFunctionName"])
    settings = {DRAINED: "true"} | ({"IDLE_TIMEOUT_SECONDS": SHORTEST_IDLE_SECONDS} if idle else {})
    if RECONCILE in of_stack and set_variables(client, of_stack[RECONCILE], settings):
        yield "no runner is kept ready any more" + (", and idle ones are retired after a minute" if idle else "")
    until, shown = time.monotonic() + at_work, None
    while True:
        last = time.monotonic() >= until
        left = len(alive(client, found))
        if left != shown:
            yield f"{left} tasks are left" if left else "no task is left"
        shown = left
        if last and not left:
            break
        time.sleep(look_again)
    waiting = stacks.messages(client, of_stack["JobQueueUrl"])
    yield f"drained; {waiting} jobs wait, for a day at most: `make resume` serves them"


def resume(client, stack):
    """What waits on the queues is gone on with. Yields what was done."""
    found = stacks.get(client, stack)
    of_stack, given = stacks.outputs(found), stacks.parameters(found)
    settings = {DRAINED: "false", "IDLE_TIMEOUT_SECONDS": given["IdleTimeoutSeconds"]}
    if RECONCILE in of_stack:
        set_variables(client, of_stack[RECONCILE], settings)
    for function in there(of_stack):
        client("lambda").delete_function_concurrency(FunctionName=of_stack[function])
        yield f"{of_stack[function]} runs again"


def told_by_drain(client, found):
    """What `make drain` has told reconcile, which an update of the stack takes back."""
    of_stack = stacks.outputs(found or {})
    if RECONCILE not in of_stack:
        return {}
    variables = variables_of(client, of_stack[RECONCILE])
    return {name: variables[name] for name in (DRAINED, "IDLE_TIMEOUT_SECONDS")} if variables.get(DRAINED) == "true" else {}


def there(of_stack):
    return [function for function in FUNCTIONS if function in of_stack]


def alive(client, found):
    """The tasks of a stack, whose cluster may be gone: it may be half deleted."""
    try:
        return stacks.tasks(client, found)
    except stacks.ClientError as error:
        if stacks.is_gone(error):
            return []
        raise


def pause(client, function):
    try:
        client("lambda").put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    except stacks.ClientError as error:
        if not stacks.is_gone(error):
            raise
    return f"{function} runs no more"


def variables_of(client, function):
    try:
        return client("lambda").get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    except stacks.ClientError as error:
        if stacks.is_gone(error):
            return {}
        raise


def set_variables(client, function, settings):
    """Gives a function other settings, as far as it has them with other values: whether it had."""
    functions, variables = client("lambda"), variables_of(client, function)
    changed = {name: value for name, value in settings.items() if variables.get(name, value) != value}
    if changed:
        functions.update_function_configuration(FunctionName=function, Environment={"Variables": variables | changed})
        # Until then it takes no other change.
        functions.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig={"Delay": 1})
    return bool(changed)


if __name__ == "__main__":
    _, what, name = sys.argv
    steps = {"stop": lambda: stop(stacks.client, name), "resume": lambda: resume(stacks.client, name),
             "drain": lambda: drain(stacks.client, name, idle=os.environ.get("IDLE") == "1")}
    stacks.main(what, steps[what])

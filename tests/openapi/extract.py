"""What GitHub's own description says of the calls and events that are used here, written to github.json.

    npm pack @octokit/openapi@23.0.2 @octokit/openapi-webhooks@12.1.0
    python3 tests/openapi/extract.py octokit-openapi-23.0.2.tgz octokit-openapi-webhooks-12.1.0.tgz

Structure alone is kept (paths, parameters, types, enums, statuses), and of answers and events the fields that are read.
`cargo test openapi` holds every request, the stand-in's answers and the recorded events against it, offline.
"""

import json
import pathlib
import sys
import tarfile

# The newest first: where they differ, its word counts.
EDITIONS = ["api.github.com", "ghec", "ghes-3.19", "ghes-3.18", "ghes-3.17"]

RUNNER = {"id": {}, "name": {}, "status": {}, "busy": {}, "labels": {"name": {}}}
JOB = {name: {} for name in ["id", "run_id", "run_attempt", "name", "status", "conclusion", "completed_at", "runner_name", "head_sha"]}
CHECK = {"id": {}, "status": {}, "conclusion": {}, "output": {"title": {}, "summary": {}}}
SCOPES = ["/orgs/{org}", "/repos/{owner}/{repo}", "/enterprises/{enterprise}"]

# Each call, and the fields of its answer that are read.
CALLS = {
    **{f"POST {scope}/actions/runners/generate-jitconfig": {"runner": {"id": {}}, "encoded_jit_config": {}} for scope in SCOPES},
    **{f"GET {scope}/actions/runners": {"total_count": {}, "runners": RUNNER} for scope in SCOPES},
    **{f"GET {scope}/actions/runners/{{runner_id}}": RUNNER for scope in SCOPES},
    **{f"DELETE {scope}/actions/runners/{{runner_id}}": {} for scope in SCOPES},
    "GET /repos/{owner}/{repo}/actions/jobs/{job_id}": {**JOB, "labels": {}},
    "GET /orgs/{org}/installation": {"id": {}, "html_url": {}, "suspended_at": {}, "repository_selection": {}},
    "GET /repos/{owner}/{repo}/installation": {"id": {}},
    "POST /app/installations/{installation_id}/access_tokens": {"token": {}, "expires_at": {}},
    "GET /app/hook/deliveries": {"id": {}, "guid": {}, "delivered_at": {}, "status_code": {}, "event": {}, "action": {}},
    "POST /app/hook/deliveries/{delivery_id}/attempts": {},
    # The doctor's.
    "GET /app": {"html_url": {}, "slug": {}, "events": {}},
    "GET /app/hook/config": {"url": {}, "content_type": {}, "insecure_ssl": {}},
    "GET /orgs/{org}/actions/runner-groups/{runner_group_id}": {
        name: {} for name in ["name", "visibility", "allows_public_repositories", "restricted_to_workflows"]
    },
    "GET /orgs/{org}/actions/runner-groups/{runner_group_id}/repositories": {"total_count": {}, "repositories": {"full_name": {}}},
    # The author's.
    "GET /repos/{owner}/{repo}/actions/runs/{run_id}": {
        **{name: {} for name in ["run_attempt", "status", "conclusion", "created_at", "updated_at"]}, "triggering_actor": {"login": {}},
    },
    "GET /repos/{owner}/{repo}/actions/runs/{run_id}/attempts/{attempt_number}/jobs": {"total_count": {}, "jobs": JOB},
    "POST /repos/{owner}/{repo}/actions/runs/{run_id}/rerun-failed-jobs": {},
    "POST /repos/{owner}/{repo}/actions/jobs/{job_id}/rerun": {},
    "GET /repos/{owner}/{repo}/commits/{ref}/check-runs": {"check_runs": CHECK},
    "POST /repos/{owner}/{repo}/check-runs": {},
    "PATCH /repos/{owner}/{repo}/check-runs/{check_run_id}": {},
    "POST /repos/{owner}/{repo}/statuses/{sha}": {},
    "GET /rate_limit": {"resources": {"core": {"limit": {}, "remaining": {}}}},
}

OWNER = {"login": {}}
EVENT = {
    "action": {},
    "workflow_job": {
        name: {} for name in ["id", "run_id", "run_attempt", "status", "labels", "name", "workflow_name", "created_at", "runner_id",
                             "runner_name", "head_sha", "html_url"]
    },
    "repository": {"name": {}, "private": {}, "owner": OWNER},
    "installation": {"id": {}},
}

# Of a schema, what says which values are right.
KEPT = ["type", "enum", "required", "minItems", "maxItems", "minimum", "maximum"]


def read(archive, name):
    with tarfile.open(archive) as package:
        return json.load(package.extractfile(f"package/generated/{name}.json"))


def resolve(document, node):
    while "$ref" in node:
        target = document
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step.replace("~1", "/").replace("~0", "~")]
        node = target
    return node


def structure(document, schema, read=None):
    """The schema without words; with `read`, of its properties those alone."""
    schema = resolve(document, schema)
    kept = {key: schema[key] for key in KEPT if key in schema}
    if schema.get("nullable") and isinstance(kept.get("type"), str):
        kept["type"] = [kept["type"], "null"]
    for key in ["oneOf", "anyOf", "allOf"]:
        if key in schema:
            kept[key] = [structure(document, inner, read) for inner in schema[key]]
    if "items" in schema:
        kept["items"] = structure(document, schema["items"], read)
    if "properties" in schema:
        kept["properties"] = {
            name: structure(document, inner, None if read is None else read[name])
            for name, inner in schema["properties"].items()
            if read is None or name in read
        }
        kept["required"] = sorted(set(kept.get("required", [])) & set(kept["properties"]))
    return {key: value for key, value in kept.items() if value not in ([], {})} or {}


def call(document, operation, fields):
    parameters = [resolve(document, parameter) for parameter in operation.get("parameters", [])]
    body = operation.get("requestBody")
    answers = operation["responses"]
    success = resolve(document, next(answer for status, answer in answers.items() if status < "300"))
    content = success.get("content", {}).get("application/json")
    return {
        "apps": operation["x-github"]["enabledForGitHubApps"],
        "path": {p["name"]: structure(document, p["schema"]) for p in parameters if p["in"] == "path"},
        "query": {p["name"]: structure(document, p["schema"]) for p in parameters if p["in"] == "query"},
        "body": structure(document, body["content"]["application/json"]["schema"]) if body else None,
        "statuses": sorted(map(int, answers)),
        "answer": structure(document, content["schema"], fields) if content and fields else None,
    }


def main(calls_archive, events_archive):
    editions = {name: read(calls_archive, name) for name in EDITIONS}
    calls = {}
    for key, fields in CALLS.items():
        method, path = key.split(" ")
        found = {
            name: call(document, document["paths"][path][method.lower()], fields)
            for name, document in editions.items()
            if method.lower() in document["paths"].get(path, {})
        }
        if not found:
            sys.exit(f"{key}: nobody describes it")
        newest = next(iter(found.values()))
        calls[key] = {"editions": list(found), **newest}
    document = read(events_archive, EDITIONS[0])
    events = {}
    for action in ["queued", "in-progress", "completed", "waiting"]:
        post = document["webhooks"][f"workflow-job-{action}"]["post"]
        schema = post["requestBody"]["content"]["application/json"]["schema"]
        events[action.replace("-", "_")] = structure(document, schema, EVENT)
    sources = [pathlib.Path(archive).stem for archive in (calls_archive, events_archive)]
    target = pathlib.Path(__file__).with_name("github.json")
    parts = [f'"from": {json.dumps(sources)}', f'"calls": {lines(calls)}', f'"workflow_job": {lines(events)}']
    target.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def lines(values):
    """A line each, so that a difference shows where it is."""
    written = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in values.items()]
    return "{\n" + ",\n".join(written) + "\n}"


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What /api/v1 understands and answers, as OpenAPI 3.1: served at /openapi.json. Data, by hand."""

from __future__ import annotations

from typing import Any, Final

from titan import __version__
from titan.accounting import GROUPS, SOURCES
from titan.model import State

Schema = dict[str, Any]

_STRING: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "number"}
_FLAG: Final[Schema] = {"type": "string", "enum": ["0", "1"]}
_STATES: Final = [each.name for each in State if each <= State.CANCELLED]


def _whole(least: int, most: int | None = None, default: int | None = None) -> Schema:
    schema: Schema = {"type": "integer", "minimum": least}
    if most is not None:
        schema["maximum"] = most
    if default is not None:
        schema["default"] = default
    return schema


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _or_null(kind: str) -> Schema:
    return {"type": [kind, "null"]}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _named(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _query(name: str, description: str, schema: Schema = _STRING, *, many: bool = False) -> Schema:
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": _list(schema) if many else schema,
    }


def _in_path(name: str, description: str) -> Schema:
    return {
        "name": name, "in": "path", "required": True, "description": description, "schema": _STRING,
    }  # fmt: skip


_AT: Final = _query("at", "As it was then: `lsn:123`, or Unix seconds. Without it: now.")
_JOB: Final = _in_path("job", "A job's number, `42`, or of a task of it, `42.7`.")
_WORKER: Final = _in_path("worker", "A worker's name, or its id in hexadecimal.")
_SINCE: Final = _query("since", "Unix seconds.", _NUMBER)
_UNTIL: Final = _query("until", "Unix seconds.", _NUMBER)
_WHICH: Final = (
    _query("user", "Only of this user."),
    _query("name", "Only of jobs of this name."),
    _query("worker", "Only on this worker."),
    _query("state", "Only attempts that ended so; may be repeated.", many=True),
    _query("job", "Only of the job of this number.", _whole(1)),
    _query("source", "Only what Titan ran, or what was imported.", {
        "type": "string", "enum": list(SOURCES),
    }),
)  # fmt: skip
_EVENT_STREAM: Final = {"text/event-stream": {"schema": _STRING}}


def _answers(schema: Schema | None, status: str = "200", *, events: bool = False) -> Schema:
    content = _EVENT_STREAM if events else {"application/json": {"schema": schema}}
    answer: Schema = {"description": "The answer."}
    if schema is not None or events:
        answer["content"] = content
    return {
        status: answer,
        "default": {
            "description": "What was wrong, in a sentence.",
            "content": {"application/json": {"schema": _named("Error")}},
        },
    }


def _get(
    summary: str, schema: Schema | None, *parameters: Schema, events: bool = False
) -> dict[str, Any]:
    return {
        "get": {
            "summary": summary,
            "parameters": list(parameters),
            "responses": _answers(schema, events=events),
        }
    }


def _post(
    summary: str, schema: Schema | None, *parameters: Schema, body: Schema, status: str = "200"
) -> dict[str, Any]:
    return {
        "post": {
            "summary": summary,
            "parameters": list(parameters),
            "requestBody": {"content": {"application/json": {"schema": body}}},
            "responses": _answers(schema, status),
        }
    }


_NOTHING: Final = {"type": "object", "additionalProperties": False}
_DATED: Final = {"lsn": _whole(0), "at_time": _or_null("number")}
_CHANGES: Final = _list(_named("Change"))
_LIST_ROWS: Final = _query("limit", "At most so many.", _whole(1, 10_000))
_MOMENT: Final = _object(lsn=_whole(0), time=_NUMBER)

PATHS: Final[dict[str, Schema]] = {
    "/session": {
        **_get(
            "Who looks, what he may do, and what changes by cookie have to carry.",
            _object(
                user=_STRING, admin={"type": "boolean"}, writable={"type": "boolean"}, csrf=_STRING,
                version=_STRING, manager=_STRING, cluster_id=_or_null("string"),
                history={"type": "boolean"},
            ),
        ),
        **_post(
            "Exchanges the token for a cookie.", None, body=_object(token=_STRING), status="204"
        ),
        "delete": {"summary": "Ends the cookie's session.", "responses": _answers(None, "204")},
    },
    "/stats": _get("The cluster in numbers, as `titan stats --json`.", _named("Stats"), _AT),
    "/workers": _get(
        "All workers.", _object(**_DATED, workers=_list(_named("Worker"))), _AT
    ),
    "/jobs": {
        **_get(
            "A page of jobs: those that have not ended, the oldest first behind `after`; with "
            "`all` or a state in which jobs have ended the newest first before `before`.",
            _object(**_DATED, jobs=_list(_named("Job")), more={"type": "boolean"}),
            _query("state", "Only those; may be repeated.", {"type": "string", "enum": _STATES},
                   many=True),
            _query("user", "Only this user's."),
            _query("name", "Only of this name."),
            _query("all", "Those that have ended, too.", _FLAG),
            _query("limit", "At most so many.", _whole(1, 1000, 1000)),
            _query("after", "Only jobs of higher numbers.", _whole(0)),
            _query("before", "Only jobs of lower numbers.", _whole(0)),
            _AT,
        ),
        **_post(
            "Submits a job. The keys are those of FLOW.toml but script, secret_env and export.",
            _object(job_id=_whole(1)),
            body={
                "type": "object",
                "properties": {
                    "command": _list(_STRING), "shell": _STRING, "name": _STRING,
                    "cpus": {"type": ["number", "string"]},
                    "memory": {"type": ["integer", "string"]},
                    "array": {"type": ["string", "array"]},
                    "priority": {"type": "integer"}, "time_limit": _STRING,
                    "env": {"type": "object", "additionalProperties": _STRING}, "cwd": _STRING,
                    "after": _list({"type": ["string", "integer"]}),
                    "request_id": {
                        "type": "string",
                        "description": "32 hexadecimal digits: the same again answers with the "
                        "same job.",
                    },
                },
            },
            status="201",
        ),
    },
    "/jobs/{job}": _get(
        "A job with some of its attempts, as `titan show --json`.",
        _object(**_DATED, job=_named("Job")),
        _JOB,
        _query("attempts", "At most so many attempts.", _whole(0, 10_000, 100)),
        _query("state", "Only attempts in that state; may be repeated.", many=True),
        _query("live", "Ask the workers what running attempts use now.", _FLAG),
        _AT,
    ),
    "/jobs/{job}/tasks": _get(
        "The states of a job's tasks in the order of their indexes, a letter each: P S R C F, "
        "and X for CANCELLED.",
        _object(
            **_DATED, job_id=_whole(1), array=_or_null("string"), total=_whole(0), first=_whole(0),
            states=_STRING,
        ),
        _JOB,
        _query("first", "Leave out so many.", _whole(0, default=0)),
        _query("count", "At most so many.", _whole(1, 1_000_000, 100_000)),
        _AT,
    ),
    "/jobs/{job}/events": _get(
        "What happened to a job, as `titan show --events --json`; `more` follows behind `lsn`.",
        _object(lsn=_whole(0), events=_list({"type": "object"}), more={"type": "boolean"}),
        _JOB,
        _query("after_lsn", "Only what came later in the log.", _whole(0, default=0)),
        _query("limit", "At most so many, or those of one record.", _whole(1, 10_000, 1000)),
        _AT,
    ),
    "/jobs/{job}/why": _get(
        "Why a task waits, or how it came to be where it is, as `titan why --json`.",
        _named("Explanation"),
        _JOB,
        _query("index", "Which task of an array.", _whole(0)),
        _AT,
    ),
    "/jobs/{job}/output": _get(
        "What a task wrote, as server-sent events: `data` {stream, offset, text, attempt, "
        "hole_bytes}, then `end` {}, or `error` {error}.",
        None,
        _JOB,
        _query("index", "Which task of an array.", _whole(0, default=0)),
        _query("attempt", "Which attempt; 0: the latest.", _whole(0, default=0)),
        _query("stream", "Only that; without it both.", {
            "type": "string", "enum": ["stdout", "stderr"],
        }),
        _query("tail", "Begin so many lines before the end; 0: at the beginning.",
               _whole(0, 100_000, 1000)),
        _query("follow", "Go on until the task has ended; by default 1.", _FLAG),
        events=True,
    ),
    "/jobs/{job}/cancel": _post(
        "Cancels a job, or a task of it.",
        _list(_object(job_id=_whole(1), state=_STRING, exit_code=_or_null("integer"))),
        _JOB,
        body={
            "type": "object",
            "properties": {"grace_seconds": _or_null("number"), "signal": _or_null("string")},
            "additionalProperties": False,
        },
    ),
    "/jobs/{job}/hold": _post("Starts no more of its tasks.", _CHANGES, _JOB, body=_NOTHING),
    "/jobs/{job}/release": _post("Lets a held job go on.", _CHANGES, _JOB, body=_NOTHING),
    "/workers/{worker}/drain": _post(
        "Gives a worker no new tasks.",
        _named("Worker"),
        _WORKER,
        body={
            "type": "object",
            "properties": {"reason": _STRING},
            "additionalProperties": False,
        },
    ),
    "/workers/{worker}/undrain": _post(
        "Gives it tasks again.", _named("Worker"), _WORKER, body=_NOTHING
    ),
    "/workflow/{job}": _get(
        "The jobs that hang together with one by what they wait for.",
        _object(
            **_DATED,
            jobs=_list(_named("Job")),
            edges=_list(
                _object(**{
                    "from": _whole(1), "to": _whole(1),
                    "condition": {"type": "string", "enum": ["OK", "ANY", "FAILED"]},
                    "same_index": {"type": "boolean"}, "index": _or_null("integer"),
                })
            ),
            more={"type": "boolean"},
        ),
        _JOB,
        _query("limit", "At most so many jobs.", _whole(1, 1000, 1000)),
        _AT,
    ),
    "/moments": _get(
        "Which moments of the past can be asked about.", _object(first=_MOMENT, last=_MOMENT)
    ),
    "/events": _get(
        "What changes, as server-sent events: `hello` {lsn}, `jobs` {lsn, jobs}, `cluster` {stats, "
        "workers}, `manager` {reachable, error}, and `reset` {} where what was asked for can't be "
        "resumed. The ids of events are positions in the log; the header Last-Event-ID resumes.",
        None,
        _query("after", "Resume behind this id."),
        events=True,
    ),
    "/timeline": _get(
        "What ran when and where, a bar for each attempt, in columns; times are seconds after "
        "`since`. States: R, C, F, X for CANCELLED, L for LOST, P for RECALLED, U for UNKNOWN.",
        _object(
            lsn=_whole(0), time=_NUMBER, since=_NUMBER, until=_NUMBER, more={"type": "boolean"},
            workers=_list(_STRING), users=_list(_STRING), jobs=_list({"type": "object"}),
            bars={"type": "object"},
        ),
        _SINCE, _UNTIL, *_WHICH,
        _query("limit", "At most so many bars.", _whole(1, 300_000, 300_000)),
    ),
    "/history/usage": _get(
        "How busy the cluster was, as `titan stats --last --json`.",
        {"type": "object"},
        _SINCE, _UNTIL,
        _query("count", "In how many parts.", _whole(1, 1000, 60)),
    ),
    "/history/totals": _get(
        "Cpu-hours, as `titan history --by --json`.",
        _list({"type": "object"}),
        _SINCE, _UNTIL, *_WHICH,
        _query("by", "Sums of what.", {"type": "string", "enum": list(GROUPS), "default": "user"}),
    ),
    "/history/attempts": _get(
        "Attempts that ended, as `titan history --json`.",
        _list({"type": "object"}),
        _SINCE, _UNTIL, *_WHICH, _LIST_ROWS,
        _query("slowest", "The slowest first.", _FLAG),
    ),
    "/history/failing": _get(
        "Names under which most attempts failed.",
        _list({"type": "object"}),
        _SINCE, _UNTIL, *_WHICH, _LIST_ROWS,
    ),
}  # fmt: skip

SCHEMAS: Final[dict[str, Schema]] = {
    "Error": _object(error=_STRING, code=_STRING),
    "Stats": {
        "description": "An object of `titan stats --json`, and at_time.",
        **_object(**_DATED, cluster_id=_STRING, jobs=_named("Counts"), tasks=_named("Counts")),
    },
    "Worker": {
        "description": "An object of `titan workers --json`.",
        **_object(
            worker_id=_STRING, name=_STRING, state=_STRING, cpus=_NUMBER, cpus_free=_NUMBER,
            memory_bytes=_whole(0), draining={"type": "boolean"},
        ),
    },
    "Job": {
        "description": "An object of `titan show --json`; of lists without attempts.",
        **_object(
            job_id=_whole(1), name=_STRING, user=_STRING,
            state={"type": "string", "enum": _STATES}, tasks=_named("Counts"),
        ),
    },
    "Change": _object(
        job_id=_whole(1), state=_STRING, held={"type": "boolean"}, suspended={"type": "boolean"},
        priority={"type": "integer"}, time_limit_seconds=_or_null("number"),
    ),
    "Explanation": {
        "description": "An object of `titan why --json`, and lsn and at_time.",
        **_object(**_DATED, state=_STRING, sentence=_STRING),
    },
    "Counts": _object(**{each.lower(): _whole(0) for each in _STATES}),
}  # fmt: skip

DOCUMENT: Final[Schema] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Titan",
        "version": __version__,
        "summary": "The cluster as JSON, as its pages see it.",
        "description": "Names and units are those of `titan … --json`: times are Unix seconds, "
        "states upper case. Whoever changes something by a cookie or a certificate sends the "
        "header X-CSRF-Token with what /session tells; by `Authorization: Bearer` none is needed.",
    },
    "servers": [{"url": "/api/v1"}],
    "security": [{"token": []}, {"cookie": []}],
    "paths": PATHS,
    "components": {
        "schemas": SCHEMAS,
        "securitySchemes": {
            "token": {"type": "http", "scheme": "bearer"},
            "cookie": {"type": "apiKey", "in": "cookie", "name": "titan_8080"},
        },
    },
}

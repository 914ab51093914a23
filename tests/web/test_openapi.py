"""What is described is what is served, and the other way round."""

from __future__ import annotations

from typing import Any, Final

import pytest
from openapi_spec_validator import validate
from starlette.routing import Route

from tests.client.fake_manager import FakeManager
from tests.web.running import Running
from titan.client.aio_session import AioSession
from titan.rpc.v1 import history_pb2, manager_pb2, types_pb2
from titan.web.app import API, Terms, make_app
from titan.web.live import Live
from titan.web.openapi import DOCUMENT, PATHS

# What is a good value of a parameter that takes not just any.
VALUES: Final = {
    "at": "lsn:7", "since": "1700000000", "until": "1700000060.5", "state": "RUNNING",
    "user": "ada", "name": "x", "worker": "w1", "after": "3",
}  # fmt: skip
READS: Final = [path for path, methods in PATHS.items() if "get" in methods]


def test_the_document_is_openapi() -> None:
    validate(DOCUMENT)


def test_every_route_is_described_and_none_else() -> None:
    served = set()
    # Only its routes are looked at: nothing is called.
    for route in make_app(_Nowhere(), Live(_Nowhere()), Terms("t", "u")).routes:
        assert isinstance(route, Route)
        if route.path.startswith(API) and ":path" not in route.path:
            methods = (route.methods or set()) - {"HEAD"}
            served |= {(route.path.removeprefix(API), each.lower()) for each in methods}
    described = {(path, method) for path, methods in PATHS.items() for method in methods}
    assert served == described


class _Nowhere(AioSession):
    def __init__(self) -> None:
        pass

    @property
    def address(self) -> str:
        return ""


def value(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    schema = schema.get("items", schema)
    if "enum" in schema and parameter["name"] not in VALUES:
        return str(schema["enum"][0])
    if schema.get("type") == "integer":
        return str(max(schema["minimum"], 1))
    return VALUES[parameter["name"]]


@pytest.mark.parametrize("path", READS)
def test_every_parameter_is_understood(manager: FakeManager, server: Running, path: str) -> None:
    job = manager.add_job()
    manager.run(job)
    manager.end(job)
    worker = manager_pb2.Worker(worker_id=b"w" * 16, name="w1", state=types_pb2.HEALTHY)
    manager.workers = [worker]
    manager.explanation.state = types_pb2.PENDING
    usage = history_pb2.HistoryUsage(since=1, until=2, ended=[0], failed=[0])
    manager.history = [history_pb2.GetHistoryResponse(usage=usage)]
    filled = path.replace("{job}", "1").replace("{worker}", "w1")
    parameters = [each for each in PATHS[path]["get"]["parameters"] if each["in"] == "query"]
    query = {each["name"]: value(each) for each in parameters}
    streams = "text/event-stream" in str(PATHS[path]["get"]["responses"])
    with server.program() as client:
        for names in [[], *([name] for name in query), list(query)]:
            wanted = {name: query[name] for name in names}
            if path.startswith(("/history", "/timeline")) and "state" in wanted:
                wanted["state"] = "FAILED"
            url = f"/api/v1{filled}"
            with client.stream("GET", url, params=wanted) as answer:
                assert answer.status_code == 200, (wanted, answer.read())
                kind = answer.headers["content-type"]
                assert kind.startswith("text/event-stream" if streams else "application/json")
                if not streams:
                    answer.read()
                    check(answer.json(), schema_of(path))
        # And no other one is.
        assert client.get(f"/api/v1{filled}?unheard_of=1").status_code == 400


def schema_of(path: str) -> dict[str, Any]:
    content = PATHS[path]["get"]["responses"]["200"]["content"]
    schema: dict[str, Any] = content["application/json"]["schema"]
    return schema


def check(given: Any, schema: dict[str, Any]) -> None:
    """That it is what the schema says, as far as ours say anything."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    kinds = {
        "object": dict, "array": list, "string": str, "integer": int, "number": int | float,
        "boolean": bool, "null": type(None),
    }  # fmt: skip
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    assert any(isinstance(given, kinds[each]) for each in types), (given, schema)
    for name in schema.get("required", ()):
        assert name in given, (name, given)
        check(given[name], schema["properties"][name])
    if isinstance(given, list):
        for each in given:
            check(each, schema["items"])


def test_the_document_is_served_to_everybody(server: Running) -> None:
    with server.stranger() as client:
        assert client.get("/openapi.json").json()["paths"].keys() == PATHS.keys()

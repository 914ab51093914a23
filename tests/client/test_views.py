"""The dicts that users see: every field is there, and unknown is None."""

import json

from titan.client import views
from titan.rpc.v1 import manager_pb2, types_pb2

JOB_FIELDS = """
    job_id name user state reason detail cancel_requested waiting_for command cwd cpus
    memory_bytes resources priority retries retry_on time_limit_seconds on umask script
    interpreter stdin ulimits pids_limit cpu_limit pin stdout stderr run_as sandbox
    no_network trace_id secret_env array after
    constraints affinity anti_affinity spread exclusive array_limit max_fails
    begin_time deadline_time preemptible at_most_once held suspended submit_time start_time
    end_time exit_code signal tasks
""".split()  # noqa: SIM905 - as a table
ATTEMPT_FIELDS = """
    index attempt worker state reason detail exit_code signal start_time end_time
    cpu_user_seconds cpu_system_seconds max_rss_bytes rss_bytes stdout_path stderr_path
""".split()  # noqa: SIM905
WORKER_FIELDS = """
    worker_id name address state reason cpus cpus_free memory_bytes memory_free_bytes resources
    resources_free labels running queued last_heartbeat_time version draining
    limits cpu_percent load_1m memory_used_bytes memory_total_bytes disk_free_bytes
""".split()  # noqa: SIM905
COUNTS = ["pending", "scheduled", "running", "completed", "failed", "cancelled"]


def test_a_shown_job_has_exactly_its_fields_in_order() -> None:
    view = views.show_view(manager_pb2.GetJobStatusResponse(attempts=[manager_pb2.Attempt()]))
    assert list(view) == [*JOB_FIELDS, "attempts", "attempts_total"]
    assert list(view["tasks"]) == COUNTS
    assert [list(attempt) for attempt in view["attempts"]] == [ATTEMPT_FIELDS]


def test_a_listed_job_is_a_shown_one_without_attempts() -> None:
    assert list(views.job_view(manager_pb2.Job())) == [*JOB_FIELDS, "attempts_total"]


def test_a_worker_has_exactly_its_fields_in_order() -> None:
    assert list(views.worker_view(manager_pb2.Worker())) == WORKER_FIELDS


def test_what_is_not_known_yet_is_none() -> None:
    view = views.job_view(manager_pb2.Job(job_id=1, state=types_pb2.PENDING, submit_us=1))
    unknown = {key for key, value in view.items() if value is None}
    assert unknown == {
        *("reason", "detail", "waiting_for", "cwd", "time_limit_seconds", "on", "umask", "array"),
        *("script", "interpreter", "stdin", "stdout", "stderr", "pids_limit", "run_as", "sandbox"),
        "trace_id",
        *("spread", "array_limit", "max_fails", "begin_time", "deadline_time"),
        *("start_time", "end_time", "exit_code", "signal"),
    }
    attempt = views.attempt_view(manager_pb2.Attempt(index=3, attempt=1, start_us=5))
    assert attempt["cpu_user_seconds"] is attempt["max_rss_bytes"] is attempt["end_time"] is None
    assert attempt["start_time"] == 5e-06


def test_an_exit_code_of_zero_is_known() -> None:
    assert views.job_view(manager_pb2.Job(exit_code=0))["exit_code"] == 0
    assert views.attempt_view(manager_pb2.Attempt(exit_code=0))["exit_code"] == 0


def test_values_are_in_the_units_of_json() -> None:
    view = views.job_view(
        manager_pb2.Job(
            state=types_pb2.FAILED,
            reason=types_pb2.REASON_LAUNCH_ERROR,
            resources=types_pb2.Resources(cpus_milli=2500, memory_bytes=7, named={"b": 1, "a": 2}),
            array=[types_pb2.IndexRange(start=0, stop=9, step=2)],
            submit_us=1_500_000,
        )
    )
    assert (view["state"], view["reason"]) == ("FAILED", "LAUNCH_ERROR")
    assert (view["cpus"], view["memory_bytes"]) == (2.5, 7)
    assert list(view["resources"].items()) == [("a", 2), ("b", 1)]
    assert view["array"] == "0-8:2"
    assert view["submit_time"] == 1.5
    whole = views.job_view(manager_pb2.Job(resources=types_pb2.Resources(cpus_milli=2000)))
    assert json.dumps(whole["cpus"]) == "2"


def test_bytes_that_are_not_utf8_become_replacement_characters() -> None:
    view = views.job_view(manager_pb2.Job(command=[b"a\xff"], cwd=b"/\xfe"))
    assert view["command"] == ["a\ufffd"]
    assert view["cwd"] == "/\ufffd"


def test_a_state_of_a_newer_manager_is_shown_all_the_same() -> None:
    job = manager_pb2.Job()
    job.state = 99  # type: ignore[assignment]
    assert views.job_view(job)["state"] == "UNKNOWN_99"


def test_what_the_log_does_not_tell_of_a_run_is_null_in_stats_of_the_past() -> None:
    view = views.stats_view(manager_pb2.GetStatsResponse(lsn=5, at_us=7))
    names = ("start_time", "recovery_seconds", "recovered_records", "version")
    assert [view[name] for name in names] == [None] * 4
    fresh = views.stats_view(manager_pb2.GetStatsResponse(started_us=1_000_000))
    assert (fresh["recovery_seconds"], fresh["recovered_records"]) == (0, 0)


def test_stats_have_all_counts_even_of_nothing() -> None:
    view = views.stats_view(manager_pb2.GetStatsResponse(workers={"healthy": 2}))
    assert list(view["jobs"]) == list(view["tasks"]) == COUNTS
    assert view["workers"]["healthy"] == 2
    assert view["workers"]["disconnected"] == 0


def test_every_view_is_json() -> None:
    for view in (
        views.show_view(manager_pb2.GetJobStatusResponse()),
        views.worker_view(manager_pb2.Worker(worker_id=bytes(16))),
        views.stats_view(manager_pb2.GetStatsResponse()),
        views.outcome_view(manager_pb2.Job()),
    ):
        assert json.loads(json.dumps(view)) == view

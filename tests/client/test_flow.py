"""FLOW.toml: many jobs in one file."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import titan
from titan.client import submission
from titan.client.dependencies import After, positions_waited_for
from titan.client.jobspec import JobSpec, to_message
from titan.errors import InvalidJob
from titan.rpc.v1 import manager_pb2, types_pb2

Flow = Callable[[str], dict[str, JobSpec]]


@pytest.fixture
def flow(tmp_path: Path) -> Flow:
    """Reads a flow of that text."""
    path = tmp_path / "flow.toml"

    def read(text: str) -> dict[str, JobSpec]:
        path.write_text(text)
        return titan.read_flow(path)

    return read


def request_of(specs: dict[str, JobSpec]) -> manager_pb2.SubmitJobRequest:
    (request,) = submission.submit_requests(
        list(specs.values()), user="alice", request_id=bytes(16), environ={}, at_once=True
    )
    return request


THREE = """
[defaults]
cpus = 2
[job.fetch]
command = ["python", "fetch.py"]
[job.train]
command = ["python", "train.py"]
array = "0-9"
memory = "4GiB"
cpus = 0.5
after = ["fetch"]
[job.report]
shell = "cat out/* > report.txt"
after = ["train:any"]
"""


def test_jobs_are_read_in_their_order_with_what_they_wait_for(flow: Flow, tmp_path: Path) -> None:
    request = request_of(flow(THREE))
    assert [job.name for job in request.jobs] == ["fetch", "train", "report"]
    assert [positions_waited_for(job) for job in request.jobs] == [[], [0], [1]]
    fetch, train, report = request.jobs
    assert list(fetch.command) == [b"python", b"fetch.py"]
    assert list(report.command) == [b"/bin/sh", b"-c", b"cat out/* > report.txt"]
    assert [job.resources.cpus_milli for job in request.jobs] == [2000, 500, 2000]
    assert train.resources.memory_bytes == 4 << 30
    assert (train.array[0].start, train.array[0].stop) == (0, 10)
    assert report.scheduling.after[0].condition == manager_pb2.DEPENDENCY_ANY
    assert {job.cwd for job in request.jobs} == {os.fsencode(tmp_path)}


def test_every_key_says_what_its_option_says(flow: Flow, tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text("#!/bin/sh\n")
    specs = flow("""
[job.other]
command = ["x"]
[job.all]
name = "called"
script = "job.sh"
command = ["a", "b c"]
interpreter = ["bash", "-e"]
cpus = "0.5"
memory = "1.5G"
resource = {gpu = 2, disk = "1"}
priority = -4
time_limit = "1h"
grace = "5s"
signal_before_end = "USR1@60s"
array = "0-9%4"
env = {A = "1", SEED = 7, X = 0.5}
export = ["HOME", "LANG"]
cwd = "run"
on = "w1"
after = ["other", "other.0:failed", 42, "43.%i", "last:any"]
begin = 2100-01-01T10:00:00Z
deadline = 2100-01-02
hold = true
retries = 3
retry_on = [75, 1]
max_fails = 0
constraint = ["zone in (a,b)", "disk==ssd"]
affinity = ["self", "other"]
anti_affinity = 44
spread = "rack"
exclusive = true
preemptible = true
at_most_once = false
ulimit = {nofile = 64, core = "0:unlimited"}
pids_limit = 9
cpu_limit = true
umask = "027"
stdin = "in/%i"
stdout = "/log/%j"
stderr = "err"
user = "batch"
sandbox = "bubblewrap"
no_network = true
""")
    request = request_of(specs)
    job = request.jobs[1]
    environment = request.environments[job.environment]
    assert (job.name, list(job.command)) == ("called", [b"job.sh", b"a", b"b c"])
    assert environment.script == b"#!/bin/sh\n"
    assert list(job.execution.interpreter) == [b"bash", b"-e"]
    assert job.execution.script_source == types_pb2.SCRIPT_SENT
    assert (job.resources.cpus_milli, job.resources.memory_bytes) == (500, 3 * 2**29)
    assert dict(job.resources.named) == {"gpu": 2, "disk": 1}
    assert job.priority == -4
    assert (job.time_limit_ms, job.grace_ms) == (3_600_000, 5_000)
    assert (job.end_signal, job.end_signal_before_ms) == (10, 60_000)
    assert {v.name: v.value for v in environment.set} == {b"A": b"1", b"SEED": b"7", b"X": b"0.5"}
    assert job.cwd == os.fsencode(tmp_path / "run")
    assert job.on == "w1"
    asked = job.scheduling
    assert asked.array_limit == 4
    assert [each.job.job.job_id for each in asked.after] == [0, 0, 42, 43, 0]
    assert positions_waited_for(job) == [0, 0]
    assert (asked.after[1].index, asked.after[1].condition) == (0, manager_pb2.DEPENDENCY_FAILED)
    assert asked.after[3].same_index
    assert asked.after[4].job.job.last_of_user == "alice"
    assert asked.begin_us == 4_102_480_800_000_000
    local = time.mktime((2100, 1, 2, 0, 0, 0, 0, 0, -1))
    assert asked.deadline_us == local * 1_000_000
    assert (asked.held, asked.exclusive, asked.preemptible) == (True, True, True)
    assert (asked.retries, list(asked.retry_on), asked.max_fails) == (3, [1, 75], 0)
    assert [each.label for each in asked.constraints] == ["zone", "disk"]
    own, near, apart = asked.affinities
    assert (own.job.position, near.job.position, apart.job.job.job_id) == (1, 0, 44)
    assert (own.anti, near.anti, apart.anti) == (False, False, True)
    assert asked.spread == "rack"
    assert [(u.name, u.soft, u.hard) for u in job.execution.ulimits] == [
        ("core", 0, -1),
        ("nofile", 64, 64),
    ]
    assert (job.execution.pids_max, job.execution.cpu_limit) == (9, True)
    assert job.execution.umask == 0o27
    assert job.execution.stdin == os.fsencode(tmp_path / "in/%i")
    assert job.execution.stdout == b"/log/%j"
    assert job.execution.stderr == os.fsencode(tmp_path / "err")
    isolation = (job.execution.run_as, job.execution.sandbox, job.execution.no_network)
    assert isolation == ("batch", types_pb2.SANDBOX_BUBBLEWRAP, True)


def test_other_ways_to_write_a_value(flow: Flow) -> None:
    before = time.time()
    specs = flow("""
[job.a]
command = ["x"]
resources = "gpu=1"
env = ["A=1", "B="]
ulimit = "nofile=64:128"
constraint = "zone==a"
after = "42:any"
retry_on = "1,75"
retries = 1
array = [3, 5]
export = "NONE"
begin = 10:00:00
pin = true
[job.b]
worker_script = "daily.sh"
retry_on = 75
retries = 1
array = 7
""")
    a, b = specs["a"], specs["b"]
    assert (a.resources, a.env) == ({"gpu": 1}, {"A": "1", "B": ""})
    assert a.ulimits == {"nofile": ("64", "128")}
    assert list(to_message(a).scheduling.retry_on) == [1, 75]
    assert [part.start for part in to_message(a).array] == [3, 5]
    assert list(to_message(b).scheduling.retry_on) == [75]
    assert a.pin
    assert b.worker_script == "daily.sh"
    # The next one, perhaps over a change of the clocks.
    begin = to_message(a).scheduling.begin_us / 1e6
    assert time.localtime(begin)[3:6] == (10, 0, 0)
    assert before < begin <= time.time() + 25 * 3600


def test_defaults_give_way_to_a_job_and_of_tables_each_entry_by_itself(flow: Flow) -> None:
    specs = flow("""
[defaults]
env = {A = "1", B = "1"}
after = [42]
time_limit = "1h"
export = "ALL"
[job.a]
command = ["x"]
[job.b]
command = ["x"]
env = {B = "2", C = "2"}
after = ["a", "b2"]
time_limit = "2h"
[job.b2]
command = ["x"]
after = []
""")
    assert specs["a"].env == {"A": "1", "B": "1"}
    assert specs["b"].env == {"A": "1", "B": "2", "C": "2"}
    assert [specs[name].time_limit for name in specs] == [3600, 7200, 3600]
    assert specs["a"].after == [42]
    assert specs["b"].after == [After(specs["a"]), After(specs["b2"])]
    assert specs["b2"].after == []


def test_a_directory_with_a_percent_sign_means_itself(tmp_path: Path) -> None:
    directory = tmp_path / "50%j"
    directory.mkdir()
    path = directory / "f.toml"
    path.write_text('[job.a]\ncommand = ["x"]\nstdin = "in.%i"\n')
    message = to_message(titan.read_flow(path)["a"])
    assert message.execution.stdin == os.fsencode(tmp_path) + b"/50%%j/in.%i"
    assert message.cwd == os.fsencode(directory)


def test_a_task_of_a_job_in_the_file_can_be_waited_for_even_where_names_have_points(
    flow: Flow,
) -> None:
    specs = flow("""
[job."run.7"]
command = ["x"]
[job.run]
command = ["x"]
array = "0-9"
[job.c]
command = ["x"]
array = "0-9"
after = ["run.7", "run.8", "run.%i:any", "run.7:failed"]
""")
    run7, run = specs["run.7"], specs["run"]
    assert specs["c"].after == [
        After(run7),
        After(run, index=8),
        After(run, "any", same_index=True),
        After(run7, "failed"),
    ]


ONE = '[job.a]\ncommand = ["x"]\n'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there are no jobs: a job begins with [job.NAME]"),
        ("[job]", "there are no jobs"),
        ("[[job]]\ncommand = ['x']", "there are no jobs"),
        ("job = 3", "there are no jobs"),
        ("x = [", "this is no TOML: "),
        ("a = " + "[" * 5000, "this is no TOML: "),
        (ONE + ONE, "this is no TOML: "),
        ("[jobs.a]", "[jobs]: is not known; did you mean job?"),
        ("[default]\n" + ONE, "[default]: is not known; did you mean defaults?"),
        ("[job]\na = 3", "job a: it is no table"),
        ("defaults = 3\n" + ONE, "[defaults]: it is no table"),
        ("[defaults]\ncommand = ['x']\n" + ONE, "[defaults]: command says what one job is"),
        ("[defaults]\nmemory = 5\n" + ONE, "[defaults]: memory: '5' has no unit"),
        ("[defaults]\nmemroy = '5M'\n" + ONE, "did you mean memory?"),
        ("[job.a]", "job a: it does not say what to run"),
        (ONE + "shell = 'x'", "job a: it has a command and a line of shell"),
        ("[job.last]\ncommand = ['x']", "a job's name has no"),
        ("[job.42]\ncommand = ['x']", "a job's name has no"),
        ("[job.'42.7']\ncommand = ['x']", "a job's name has no"),
        ("[job.'a:ok']\ncommand = ['x']", "a job's name has no"),
        ("[job.'a b']\ncommand = ['x']", "a job's name has no"),
        ("[job.'']\ncommand = ['x']", "a job's name has no"),
        (ONE + "time-limit = '1h'", "job a: 'time-limit' is not known; did you mean time_limit?"),
        (ONE + "constraints = 'x'", "did you mean constraint?"),
        (ONE + "qqq = 1", "'qqq' is not known; there are command, shell, "),
        (ONE + "request_id = 'x'", "'request_id' is not known"),
        (ONE + "cpus = 0", "job a: cpus: 0 cpus would run nothing"),
        (ONE + "cpus = true", "job a: cpus: True is neither a number nor a text"),
        (ONE + "cpus = inf", "job a: cpus: 'inf' is no number of cpus"),
        (ONE + "memory = 512", "job a: memory: '512' has no unit"),
        (ONE + "time_limit = 90", "job a: time_limit: '90' has no unit"),
        (ONE + "priority = 1.5", "job a: priority: 1.5 is no whole number"),
        (ONE + "priority = 99999999999", "job a: a priority of 99999999999"),
        (ONE + "hold = 'yes'", "job a: hold: 'yes' is neither true nor false"),
        (ONE + "resource = {gpu = 0.5}", "job a: resource: gpu=0.5 is no resource"),
        (ONE + "resource = 'gpu'", "job a: resource: 'gpu' is no NAME=VALUE"),
        (ONE + "env = {A = [1]}", "job a: env: [1] is neither a number nor a text"),
        (ONE + "env = {'A=B' = '1'}", "job a: 'A=B' can't be the name of a variable"),
        (ONE + "array = '9-0'", "job a: array: '9-0': 0 comes before 9"),
        (ONE + "array = '0-9%0'", "no task would ever start"),
        (ONE + "umask = 27", "job a: umask: write it in quotes, in octal, such as '027'"),
        (ONE + "ulimit = {nofiles = 1}", "job a: ulimit: 'nofiles' is no resource limit"),
        (ONE + "constraint = 'zone=a'", "job a: constraint: 'zone=a' is no constraint"),
        (ONE + "begin = 'soon'", "job a: begin: 'soon' is no time"),
        (ONE + "begin = 0001-01-01T00:00:00", "job a: begin: 0001-01-01 00:00:00 is no time: "),
        (ONE + "begin = 1900-01-01T00:00:00Z", "job a: begin: "),
        (ONE + "begin = 0001-01-01", "job a: begin: '0001-01-01' is no time: "),
        (ONE + "begin = 5", "job a: begin: 5 is no text"),
        (ONE + "deadline = 2001-01-01", "job a: the deadline, 2001-01-01 00:00:00, has passed"),
        (ONE + "retry_on = ['x']", "job a: retry_on: 'x' is no whole number"),
        (ONE + "retry_on = 1", "job a: retry_on says when to try again"),
        (ONE + "max_fails = 1", "job a: max_fails counts an array's tasks"),
        (ONE + "script = 'nope.sh'", "job a: script: cannot read the script "),
        (ONE + "stdin = '%q'", "job a: the name of stdin holds %q"),
        (ONE + "name = ''", "job a: name: '' is no text"),
        ("[job.a]\ncommand = 'x y'", "job a: command: it is a list of words in quotes"),
        ("[job.a]\ncommand = ['sleep', 1]", "job a: command: it is a list of words in quotes"),
        ("[job.a]\ncommand = []", "job a: no command"),
        ("[job.a]\nshell = true", "job a: shell: it is the line itself"),
        ("[job.a]\nshell = ''", "job a: no command"),
        (ONE + "after = 'b'", "job a: after: there is no job 'b' in this file; a job that was"),
        (ONE + "after = ['a:done']", "job a: after: 'a:done': 'done' is no condition"),
        (ONE + "after = [true]", "job a: after: True is no text"),
        (ONE + "after = [0]", "job a: after: '0' is no job"),
        (ONE + "after = '42.1-2'", "job a: after: '42.1-2' names several tasks"),
        (ONE + "after = '42.%i'", "job a: after: %i is the index of an array's task"),
        (ONE + "after = 'a'", "job a waits for itself"),
        (ONE + "affinity = 'b'", "job a: affinity: there is no job 'b'"),
        (ONE + "affinity = '42.7'", "job a: affinity: 42.7 names tasks"),
        (ONE + "after='b'\n[job.b]\ncommand=['x']\nafter='a'", "jobs that wait for each other"),
    ],
)
def test_what_is_wrong_is_told_by_file_and_job_and_key(flow: Flow, text: str, why: str) -> None:
    with pytest.raises(InvalidJob) as error:
        flow(text)
    sentence = str(error.value)
    path, _, rest = sentence.partition("flow.toml: ")
    assert Path(path).is_absolute()
    assert why in rest


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "x.toml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InvalidJob, match=f"{path.name}: the file cannot be read: {why}"):
            titan.read_flow(path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(InvalidJob, match="this is no TOML"):
        titan.read_flow(tmp_path / "bytes.toml")


def test_more_jobs_than_a_request_holds_are_refused(flow: Flow) -> None:
    def many(count: int) -> str:
        return "".join(f"[job.j{number}]\ncommand = ['x']\n" for number in range(count))

    with pytest.raises(InvalidJob, match="10,001 jobs; 10,000 in one file are the most"):
        flow(many(10_001))


def test_a_task_that_is_not_there_is_found_out_with_the_request(flow: Flow) -> None:
    specs = flow(ONE + "[job.b]\ncommand = ['x']\nafter = 'a.7'")
    with pytest.raises(InvalidJob, match="b waits for task 7 of a, which has no such task"):
        request_of(specs)


def test_python_submits_what_it_reads(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    client = titan.Client("127.0.0.1:1")

    def submit(request: manager_pb2.SubmitJobRequest) -> manager_pb2.SubmitJobResponse:
        sent.append(request)
        return manager_pb2.SubmitJobResponse(job_ids=range(5, 5 + len(request.jobs)))

    monkeypatch.setattr(client._session, "submit", submit)
    jobs = client.submit_many(flow(THREE).values())
    client.close()
    assert [job.id for job in jobs] == [5, 6, 7]
    (request,) = sent
    assert [positions_waited_for(job) for job in request.jobs] == [[], [0], [1]]

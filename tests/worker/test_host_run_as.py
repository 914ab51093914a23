"""Tasks as other accounts, by a real task host that is root: who may, and what they can do then."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests import strays
from tests.worker.builders import batch, launch
from tests.worker.builders import key as key_of
from tests.worker.host_driver import HostDriver, is_running, wait_for
from tests.worker.isolation import find, require_bubblewrap, require_root
from titan.model import AttemptKey, Execution, Reason, Sandbox, ScriptSource, State
from titan.worker.messages import Environment, Launch, Report
from titan.worker.output.paths import output_path
from titan.worker.output.reading import OutputFile

# Every Debian has these.
ACCOUNT: Final = "nobody"
OTHER: Final = "daemon"
DAY_MS: Final = 86_400_000
POLICY: Final = f'alice = ["{ACCOUNT}"]\nops = ["root"]\n"*" = ["self"]\n'


class Rig:
    """A host with a policy, and a place that everybody can enter, which pytest's are not."""

    _jobs = 0

    def __init__(self, path: Path, place: Path) -> None:
        self.place = place
        self.policy = place / "policy.toml"
        self.host = HostDriver(path)

    def launch(
        self, *words: str, user: str = "alice", run_as: str = ACCOUNT, **options: Any
    ) -> Launch:
        Rig._jobs += 1
        execution = options.pop("execution", Execution())._replace(run_as=run_as)
        options.setdefault("cwd", os.fsencode(self.place))
        return launch(*words, job_id=Rig._jobs, user=user, execution=execution, **options)

    def start(self, line: str, **options: Any) -> AttemptKey:
        return self.host.run_launch(self.launch("sh", "-c", line, **options))

    def end(self, line: str, **options: Any) -> Report:
        return self.host.wait_end(self.start(line, **options))

    def output(self, line: str, **options: Any) -> str:
        """What it writes; it has to end well."""
        attempt = self.start(f"exec 2>&1; {line}", **options)
        report = self.host.wait_end(attempt)
        said = self.host.output(attempt).decode()
        assert report.state is State.COMPLETED, (report, said)
        return said

    def denied(self, user: str, run_as: str) -> str:
        """Why it is not let."""
        report = self.end("echo ran", user=user, run_as=run_as)
        assert (report.state, report.reason) == (State.FAILED, Reason.LAUNCH_ERROR)
        return report.detail


@pytest.fixture(scope="module")
def module_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    require_root()
    base = tmp_path_factory.mktemp("run-as")
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))
    place.chmod(0o755)
    try:
        with strays.nothing_left(base):
            rig = Rig(base, place)
            rig.policy.write_text(POLICY)
            rig.policy.chmod(0o644)
            rig.host.start()
            rig.host.connect(output_max_bytes=1 << 20, run_as_policy=os.fsencode(rig.policy))
            yield rig
            rig.host.close()
    finally:
        shutil.rmtree(place)


@pytest.fixture
def rig(module_rig: Rig) -> Iterator[Rig]:
    """With an open directory `open` and one of root's own `closed`."""
    for name, mode in (("open", 0o777), ("closed", 0o700)):
        (module_rig.place / name).mkdir()
        (module_rig.place / name).chmod(mode)
    (module_rig.place / "secret").write_text("of root\n")
    (module_rig.place / "secret").chmod(0o600)
    yield module_rig
    shutil.rmtree(module_rig.place / "open")
    shutil.rmtree(module_rig.place / "closed")
    (module_rig.place / "secret").unlink()
    module_rig.policy.write_text(POLICY)


def test_it_has_the_ids_and_the_groups_of_the_account_and_no_others(rig: Rig) -> None:
    entry = pwd.getpwnam(ACCOUNT)
    said = rig.output("grep -E '^(Uid|Gid|Groups|CapEff)' /proc/self/status").split("\n")
    fields = dict(line.split(":", 1) for line in said if line)
    assert fields["Uid"].split() == [str(entry.pw_uid)] * 4
    assert fields["Gid"].split() == [str(entry.pw_gid)] * 4
    groups = os.getgrouplist(ACCOUNT, entry.pw_gid)
    assert sorted(map(int, fields["Groups"].split())) == sorted(groups)
    assert int(fields["CapEff"], 16) == 0


def test_its_environment_is_the_accounts(rig: Rig) -> None:
    entry = pwd.getpwnam(ACCOUNT)
    said = rig.output('echo "$HOME|$USER|$LOGNAME|$SHELL|$TMPDIR"').strip()
    assert said == f"{entry.pw_dir}|{ACCOUNT}|{ACCOUNT}|{entry.pw_shell}|/tmp"


def test_it_cannot_read_what_is_roots_and_cannot_become_root_again(rig: Rig) -> None:
    assert rig.end("cat secret").exit_code == 1
    python = "import os\nfor be in (os.setuid, os.seteuid, os.setgid):\n"
    python += "    try: be(0); print('became')\n    except PermissionError: print('no')\n"
    attempt = rig.host.run_launch(rig.launch("/usr/bin/python3", "-c", python))
    rig.host.wait_end(attempt)
    assert rig.host.output(attempt) == b"no\nno\nno\n"


def test_a_directory_that_the_account_may_not_enter_is_not_entered(rig: Rig) -> None:
    report = rig.end("echo ran", cwd=os.fsencode(rig.place / "closed"))
    assert (report.state, report.reason) == (State.FAILED, Reason.LAUNCH_ERROR)
    assert "cannot enter" in report.detail
    assert report.detail.endswith("Permission denied")


@pytest.mark.parametrize("stream", ["stdout", "stderr", "stdin"])
def test_files_that_its_user_names_are_opened_with_the_accounts_rights(
    rig: Rig, stream: str
) -> None:
    for name in (b"closed/x", b"secret"):
        execution = Execution(**{stream: name})  # type: ignore[arg-type]
        report = rig.end("cat; echo x; echo x >&2", execution=execution)
        assert (report.state, report.reason) == (State.FAILED, Reason.LAUNCH_ERROR), report
        assert "Permission denied" in report.detail
    assert (rig.place / "secret").read_text() == "of root\n"
    assert list((rig.place / "closed").iterdir()) == []


def test_what_it_puts_in_place_of_its_output_is_not_read_by_root(rig: Rig) -> None:
    execution = Execution(stdout=b"open/out", stderr=b"open/err")
    attempt = rig.start("echo mine; echo mine >&2; ln -sf ../secret open/out", execution=execution)
    assert rig.host.wait_end(attempt).state is State.COMPLETED
    # Whoever reads by the path gets it: it is a worker that must not.
    assert rig.host.output(attempt) == b"of root\n"
    directory = os.fsencode(rig.host.path / "output")
    assert not OutputFile(directory, attempt, b"out", 0).open()
    err = OutputFile(directory, attempt, b"err", 0)
    assert err.open()
    assert err.read().data == b"mine\n"
    err.close()


def test_what_is_not_known_to_be_its_output_is_not_read(rig: Rig) -> None:
    execution = Execution(stdout=b"open/out")
    attempt = rig.start("echo mine; ln -sf ../secret open/out", execution=execution)
    rig.host.wait_end(attempt)
    directory = os.fsencode(rig.host.path / "output")
    note = Path(os.fsdecode(output_path(directory, attempt, b"out.begin")))
    note.unlink()
    # It can't be read, as where a process has run out of descriptors.
    note.mkdir()
    assert not OutputFile(directory, attempt, b"out", 0).open()


@pytest.mark.parametrize("is_older", [False, True])
def test_what_tasks_write_no_other_account_can_read(is_older: bool) -> None:
    require_root()
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))
    # Workers' directories may be where everybody can enter them, as below /var/lib.
    place.chmod(0o755)
    try:
        if is_older:
            (place / "output").mkdir(mode=0o755)
        rig = Rig(place, place)
        rig.policy.write_text(POLICY)
        with strays.nothing_left(place):
            rig.host.start()
            rig.host.connect(output_max_bytes=1 << 20, run_as_policy=os.fsencode(rig.policy))
            theirs = rig.start("echo theirs")
            rig.host.wait_end(theirs)
            assert rig.host.output(theirs) == b"theirs\n"
            path = os.fsdecode(output_path(os.fsencode(place / "output"), theirs, b"out"))
            assert "Permission denied" in rig.output(f"cat {path} || :", user=OTHER, run_as=OTHER)
            rig.host.close()
    finally:
        shutil.rmtree(place)


def test_what_was_there_before_is_not_its_output(rig: Rig) -> None:
    log = rig.place / "open" / "log"
    log.write_text("before\n")
    log.chmod(0o666)
    attempt = rig.start("echo mine", execution=Execution(stdout=b"open/log"))
    rig.host.wait_end(attempt)
    out = OutputFile(os.fsencode(rig.host.path / "output"), attempt, b"out", 0)
    assert out.open()
    assert out.read().data == b"mine\n"
    out.close()


def test_a_dead_hosts_task_names_nobody_elses_processes_for_its_own(tmp_path: Path) -> None:
    require_root()
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))
    place.chmod(0o777)
    log = place / "log-of-others"
    try:
        rig = Rig(tmp_path, place)
        rig.policy.write_text(POLICY)
        rig.host.start()
        rig.host.connect(run_as_policy=os.fsencode(rig.policy))
        line = "ln -sf log-of-others out; echo $$ > pid; exec sleep 300"
        attempt = rig.start(line, execution=Execution(stdout=b"out"))
        wait_for(lambda: (place / "pid").exists() and (place / "pid").read_text(), "its pid")
        pid = int((place / "pid").read_text())
        # A task of that number of another cluster, whose output this one only points at.
        names = ("TITAN_JOB_ID", "TITAN_TASK_INDEX", "TITAN_ATTEMPT")
        environment = dict(zip(names, map(str, attempt[1:]), strict=True))
        with log.open("w") as file:
            other = subprocess.Popen(
                ["/bin/sleep", "300"], stdout=file, start_new_session=True, env=environment
            )
        try:
            rig.host.kill()
            rig.host.start()
            rig.host.connect()
            assert not is_running(pid)
            assert other.poll() is None
        finally:
            other.kill()
            other.wait()
        rig.host.close()
    finally:
        shutil.rmtree(place)


def test_files_that_it_makes_are_the_accounts(rig: Rig) -> None:
    execution = Execution(stdout=b"open/out", umask=0o027)
    assert rig.end("echo x; : > open/file", execution=execution).state is State.COMPLETED
    for name in ("out", "file"):
        found = (rig.place / "open" / name).stat()
        assert found.st_uid == pwd.getpwnam(ACCOUNT).pw_uid
        assert found.st_mode & 0o777 == 0o640
    # Its own output stays root's.
    own = os.stat(rig.host.output_path(key_of(Rig._jobs), b"err"))
    assert own.st_uid == 0


def test_a_program_that_only_root_may_run_is_not_run(rig: Rig) -> None:
    program = rig.place / "open" / "program"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o700)
    report = rig.host.wait_end(rig.host.run_launch(rig.launch(str(program))))
    assert report.reason is Reason.LAUNCH_ERROR
    assert "Permission denied" in report.detail
    program.chmod(0o755)
    assert rig.host.wait_end(rig.host.run_launch(rig.launch(str(program)))).exit_code == 0


def test_a_script_that_comes_with_the_job_can_be_read_by_the_account(rig: Rig) -> None:
    execution = Execution(script_source=ScriptSource.SENT)
    runs = rig.launch("a.sh", "1", execution=execution)
    text = b'#!/bin/sh\nid -un; echo "$1"; [ "$1" = again ] || exec "$0" again\n'
    rig.host.send_batch(batch(runs)._replace(environments=(Environment((), (), text),)))
    attempt = key_of(runs.job_id)
    assert rig.host.wait_end(attempt).state is State.COMPLETED
    said = f"{ACCOUNT}\n1\n{ACCOUNT}\nagain\n"
    assert rig.host.output(attempt).decode() == said
    orphan = rig.launch("b.sh", execution=execution)
    rig.host.send_batch(
        batch(orphan)._replace(environments=(Environment((), (), b"#!/no/such/program\n"),))
    )
    assert rig.host.wait_end(key_of(orphan.job_id)).detail == (
        "cannot run b.sh on w1: the interpreter in its #! line is missing"
    )
    with_bash = rig.launch(
        "a.sh", execution=execution._replace(interpreter=(b"sh", b"-e")), cwd=b"/"
    )
    rig.host.send_batch(
        batch(with_bash)._replace(environments=(Environment((), (), b"false; echo on"),))
    )
    assert rig.host.wait_end(key_of(with_bash.job_id)).exit_code == 1


def test_limits_and_ends_are_as_of_any_task(rig: Rig) -> None:
    execution = Execution(ulimits=(("nofile", 20, 30),))
    assert rig.output("ulimit -n; ulimit -Hn", execution=execution) == "20\n30\n"
    line = "trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.01; done"
    limited = rig.launch("sh", "-c", line, time_limit_ms=700, grace_ms=DAY_MS)
    attempt = rig.host.run_listening(limited)
    report = rig.host.wait_end(attempt)
    assert (report.reason, report.exit_code) == (Reason.TIMEOUT, 3)
    attempt = rig.start("trap '' TERM; setsid sleep 300 & echo $!; wait; sleep 300")
    stray = int(rig.host.wait_output(attempt))
    rig.host.stop(attempt, grace_ms=10)
    assert rig.host.wait_end(attempt).signal == signal.SIGKILL
    wait_for(lambda: not is_running(stray), "what left its group to end")


def test_one_that_is_left_by_a_dead_host_is_ended_by_the_next(tmp_path: Path) -> None:
    require_root()
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))
    try:
        rig = Rig(tmp_path, place)
        rig.policy.write_text(POLICY)
        rig.host.start()
        rig.host.connect(run_as_policy=os.fsencode(rig.policy))
        attempt = rig.start("setsid sleep 300 & echo $! $$; exec sleep 300", cwd=b"/")
        pids = list(map(int, rig.host.wait_output(attempt).split()))
        assert all(map(is_running, pids))
        rig.host.kill()
        rig.host.start()
        rig.host.connect()
        assert not any(map(is_running, pids))
        rig.host.close()
    finally:
        shutil.rmtree(place)


@pytest.mark.parametrize(
    ("user", "run_as", "why"),
    [
        ("bob", ACCOUNT, "the policy of this worker does not let tasks of bob run as it"),
        ("alice", OTHER, "the policy of this worker does not let tasks of alice run as it"),
        ("alice", "root", "the policy of this worker does not let tasks of alice run as it"),
        ("root", "root", "the policy of this worker does not let tasks of root run as it"),
        ("*", ACCOUNT, "the policy of this worker does not let tasks of * run as it"),
        ("", ACCOUNT, "the policy of this worker does not let tasks of nobody run as it"),
    ],
)
def test_what_the_policy_does_not_allow_is_not_run(
    rig: Rig, user: str, run_as: str, why: str
) -> None:
    assert rig.denied(user, run_as) == f"PERMISSION_DENIED: --user {run_as}: {why}"


def test_self_and_root_are_what_the_policy_says(rig: Rig) -> None:
    assert rig.output("id -un", user=OTHER, run_as=OTHER) == f"{OTHER}\n"
    assert rig.output("id -un", user="ops", run_as="root") == "root\n"
    assert rig.denied("no-such", "no-such") == (
        "--user no-such: there is no such account on this worker"
    )


def test_the_policy_counts_as_it_is_now(rig: Rig) -> None:
    assert rig.output("id -un") == f"{ACCOUNT}\n"
    rig.policy.write_text('bob = ["nobody"]\n')
    assert rig.denied("alice", ACCOUNT).startswith("PERMISSION_DENIED: ")
    assert rig.output("id -un", user="bob") == f"{ACCOUNT}\n"
    # Of another length: written soon after the last one, it may have the same time.
    rig.policy.write_text("alice = [this is no toml\n")
    assert rig.denied("bob", ACCOUNT).startswith("PERMISSION_DENIED: ")
    assert f"the run-as policy {rig.policy} cannot be used" in rig.host.log()
    rig.policy.write_text(POLICY)
    rig.policy.chmod(0o666)
    assert rig.denied("alice", ACCOUNT).startswith("PERMISSION_DENIED: ")
    rig.policy.chmod(0o644)
    assert rig.output("id -un") == f"{ACCOUNT}\n"
    os.chown(rig.policy, pwd.getpwnam(ACCOUNT).pw_uid, -1)
    assert rig.denied("alice", ACCOUNT).startswith("PERMISSION_DENIED: ")
    os.chown(rig.policy, 0, -1)
    assert rig.output("id -un") == f"{ACCOUNT}\n"


def test_without_a_policy_nobody_runs_as_another(tmp_path: Path) -> None:
    require_root()
    host = HostDriver(tmp_path)
    host.start()
    host.connect()
    runs = launch("true", user="alice", execution=Execution(run_as=ACCOUNT))
    report = host.wait_end(host.run_launch(runs))
    assert report.reason is Reason.LAUNCH_ERROR
    assert report.detail == (
        f"PERMISSION_DENIED: --user {ACCOUNT}: this worker has no --run-as-policy"
    )
    host.close()


def test_the_host_itself_stays_what_it_is(rig: Rig) -> None:
    assert rig.output("id -un") == f"{ACCOUNT}\n"
    runs = launch("sh", "-c", "id -un; id -G; cat secret", job_id=10_000 + Rig._jobs)
    runs = runs._replace(cwd=os.fsencode(rig.place))
    attempt = rig.host.run_launch(runs)
    assert rig.host.wait_end(attempt).state is State.COMPLETED
    groups = " ".join(map(str, sorted({0, *os.getgroups()})))
    assert rig.host.output(attempt).decode() == f"root\n{groups}\nof root\n"


def test_both_end_with_their_host(tmp_path: Path) -> None:
    require_root()
    require_bubblewrap()
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))
    place.chmod(0o777)
    try:
        rig = Rig(tmp_path, place)
        rig.policy.write_text(POLICY)
        rig.host.start()
        rig.host.connect(run_as_policy=os.fsencode(rig.policy))
        marker = f"86403.{os.getpid()}"
        boxed = Execution(sandbox=Sandbox.BUBBLEWRAP)
        attempt = rig.start(f"setsid sleep {marker} & sleep {marker}", execution=boxed)
        rig.host.wait_start(attempt)
        wait_for(lambda: len(find(marker)) == 2, "all of it to run")
        rig.host.kill()
        wait_for(lambda: not find(marker), "all of it to end")
    finally:
        shutil.rmtree(place)


def test_both_together(rig: Rig) -> None:
    require_bubblewrap()
    execution = Execution(sandbox=Sandbox.BUBBLEWRAP)
    line = "id -un; cat secret; touch here; touch /tmp/x && ls /tmp"
    said = rig.output(line, execution=execution, cwd=os.fsencode(rig.place / "open"))
    assert said.splitlines()[0] == ACCOUNT
    assert "cat: " in said
    assert said.endswith("x\n")
    assert (rig.place / "open" / "here").stat().st_uid == pwd.getpwnam(ACCOUNT).pw_uid
    runs = rig.launch("a.sh", execution=execution._replace(script_source=ScriptSource.SENT))
    text = b"#!/bin/sh\nid -un\n"
    rig.host.send_batch(batch(runs)._replace(environments=(Environment((), (), text),)))
    assert rig.host.wait_end(key_of(runs.job_id)).state is State.COMPLETED
    assert rig.host.output(key_of(runs.job_id)).decode() == f"{ACCOUNT}\n"

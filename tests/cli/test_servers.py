"""`titan manager` and `titan worker`: what they hand to the servers."""

from pathlib import Path
from typing import Any

import click
import pytest

from tests.cli.conftest import Titan
from titan.cli.policy_options import policy_options, words_of
from titan.manager.options import ManagerOptions
from titan.scheduler.policies import POLICIES
from titan.scheduling import ORDERS, PLACEMENTS
from titan.worker.agent.agent import OnStop
from titan.worker.agent.disk_room import DEFAULT_MINIMUM, DiskMinimum
from titan.worker.main import WorkerOptions


def test_a_manager_has_the_defaults_and_its_exit_code_is_the_commands(
    titan: Titan, managers: list[ManagerOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert titan("manager").code == 7
    assert managers == [
        ManagerOptions(
            data_directory=Path("/state/titan/manager"),
            listen="127.0.0.1:50051",
            heartbeat_timeout_seconds=30.0,
            policy="round-robin-then-bin-packing",
            order="easy",
            fair_share=False,
            preempt="off",
            reserve_after_seconds=60.0,
            user_cpus_milli=0,
            log_level="info",
        )
    ]


def test_a_manager_gets_what_is_asked_for_also_from_variables(
    titan: Titan, managers: list[ManagerOptions], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TITAN_MANAGER_LOG_LEVEL", "debug")
    monkeypatch.setenv("TITAN_MANAGER_LOG_FORMAT", "json")
    titan(
        *("manager", "--data-dir", "here", "--listen", "127.0.0.1:0"),
        *("--heartbeat-timeout", "1m", "--policy", "spread", "--order", "skip", "--fair-share"),
        *("--preempt", "suspend", "--reserve-after", "5m", "--user-cpus", "2.5"),
    )
    (options,) = managers
    assert options.data_directory == tmp_path / "here"
    assert (options.listen, options.heartbeat_timeout_seconds) == ("127.0.0.1:0", 60.0)
    assert options.policy == "spread"
    assert (options.log_level, options.log_format) == ("debug", "json")
    assert (options.order, options.fair_share, options.preempt) == ("skip", True, "suspend")
    assert (options.reserve_after_seconds, options.user_cpus_milli) == (300.0, 2500)


def test_metrics_are_served_nowhere_unless_an_option_or_a_variable_says_where(
    titan: Titan,
    managers: list[ManagerOptions],
    workers: list[WorkerOptions],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    titan("manager")
    titan("worker", "--metrics-listen", "127.0.0.1:9")
    monkeypatch.setenv("TITAN_MANAGER_METRICS_LISTEN", "[::1]:9")
    monkeypatch.setenv("TITAN_WORKER_METRICS_LISTEN", "127.0.0.1:10")
    titan("manager")
    titan("worker")
    assert [each.metrics_listen for each in managers] == [None, "[::1]:9"]
    assert [each.metrics_listen for each in workers] == ["127.0.0.1:9", "127.0.0.1:10"]
    assert titan("manager", "--metrics-listen", "9090").code == 2


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_there_is_can_be_chosen(
    titan: Titan, managers: list[ManagerOptions], policy: str
) -> None:
    titan("manager", "--policy", policy)
    assert managers[0].policy == policy


def test_placements_are_named_in_the_order_of_their_numbers() -> None:
    assert {each.name: each.code for each in POLICIES.values()} == {
        name: code for code, name in enumerate(PLACEMENTS, 1)
    }


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_there_is_can_be_chosen(
    titan: Titan, managers: list[ManagerOptions], order: str
) -> None:
    titan("manager", "--order", order)
    assert managers[0].order == order


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", ""),
        ("--policy spread --order fcfs --preempt requeue", None),
        # What is the default, too: a variable of the manager could say something else.
        ("--order easy --fair-share", None),
        ("--reserve-after 90m --user-cpus 2.5", "--reserve-after 1h30m --user-cpus 2.5"),
        ("--user-cpus none", "--user-cpus 0"),
    ],
)
def test_what_was_given_to_dev_is_written_again_for_its_manager(
    titan: Titan, managers: list[ManagerOptions], line: str, words: str | None
) -> None:
    written: list[list[str]] = []

    @click.command()
    @policy_options
    @click.pass_context
    def probe(ctx: click.Context, /, **given: Any) -> None:
        written.append(words_of(ctx, given))

    probe.main(line.split(), standalone_mode=False)
    assert written == [(line if words is None else words).split()]
    titan("manager", *line.split())
    titan("manager", *written[0])
    assert managers[0] == managers[1]


def test_a_worker_has_the_defaults(
    titan: Titan, workers: list[WorkerOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    monkeypatch.delenv("TITAN_MANAGER", raising=False)
    assert titan("worker").code == 0
    (options,) = workers
    assert options.data_directory == Path("/state/titan/worker")
    assert options.name
    assert (options.manager, options.access_file) == ("127.0.0.1:50051", None)
    assert (options.listen, options.advertise) == ("127.0.0.1:0", None)
    assert options.cpus_milli is options.memory_bytes is None
    assert not options.named
    assert not options.labels
    assert options.detach_limit_seconds == 600.0
    assert options.on_stop is OnStop.KEEP
    assert options.disk_free_min == DEFAULT_MINIMUM
    assert options.script_directory is None


def test_a_worker_gets_its_folder_of_scripts_as_an_absolute_path(
    titan: Titan, workers: list[WorkerOptions], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scripts").mkdir()
    assert titan("worker", "--scripts-dir", "scripts").code == 0
    assert workers[0].script_directory == tmp_path / "scripts"
    assert titan("worker", "--scripts-dir", "none").code == 2


def test_a_worker_gets_what_is_asked_for(titan: Titan, workers: list[WorkerOptions]) -> None:
    titan(
        *("--manager", "127.0.0.1:6", "worker", "--name", "w9", "--listen", "127.0.0.1:7"),
        *("--advertise", "127.0.0.1:8", "--cpus", "2.5", "--memory", "1G", "--access", "/a"),
        *("--resource", "gpu=2", "--resource", "disk=1", "--label", "zone=a=b"),
        *("--detach-limit", "60s", "--log-level", "error", "--output-max", "1M"),
        *("--log-format", "json"),
        *("--output-retain", "1d", "--output-retain-bytes", "5%", "--output-retain-files", "0"),
        *("--on-stop", "drain", "--disk-free-min", "2.5%"),
    )
    (options,) = workers
    assert (options.name, options.manager, options.access_file) == ("w9", "127.0.0.1:6", Path("/a"))
    assert (options.listen, options.advertise) == ("127.0.0.1:7", "127.0.0.1:8")
    assert (options.cpus_milli, options.memory_bytes) == (2500, 2**30)
    assert options.named == (("disk", 1), ("gpu", 2))
    assert options.labels == (("zone", "a=b"),)
    assert options.detach_limit_seconds == 60.0
    assert (options.log_level, options.log_format) == ("error", "json")
    assert options.output_max_bytes == 1 << 20
    assert options.output_retain_seconds == 86_400
    assert options.output_retain_bytes.of(1_000) == 50
    assert options.output_retain_files == 0
    assert options.on_stop is OnStop.DRAIN
    assert options.disk_free_min == DiskMinimum(per_mille=25)


@pytest.mark.parametrize(
    "arguments",
    [
        ["manager", "--order", "best"],
        ["manager", "--preempt", "kill"],
        ["manager", "--reserve-after", "60"],
        ["manager", "--user-cpus", "ada=2"],
        ["manager", "--policy", "best"],
        ["manager", "--heartbeat-timeout", "30"],
        ["manager", "--heartbeat-timeout", "0"],
        ["manager", "--listen", "nonsense"],
        ["worker", "--label", "zone"],
        ["worker", "--on-stop", "never"],
        ["worker", "--disk-free-min", "120%"],
        ["worker", "--disk-free-min", "5"],
        ["worker", "--cpus", "0"],
        ["worker", "--output-max", "63K"],
        ["worker", "--listen", "127.0.0.1:99999"],
        ["worker", "--manager", "8.8.8.8:1"],
        ["dev", "--listen", "0.0.0.0:1"],
        ["dev", "--workers", "0"],
    ],
    ids=" ".join,
)
def test_what_is_wrong_is_a_usage_error(titan: Titan, arguments: list[str]) -> None:
    assert titan(*arguments).code == 2


@pytest.mark.parametrize(
    "where", [["--listen", "0.0.0.0:1"], ["--listen", "[::]:1"], ["--advertise", "0.0.0.0:1"]]
)
def test_one_of_several_managers_has_an_address_of_its_own(titan: Titan, where: list[str]) -> None:
    """All of those that listen everywhere would be told to callers as the same one."""
    told = titan("manager", "--journal", "postgresql://db/titan", *where)
    assert told.code == 2
    assert f"others cannot call a manager by {where[1]}: give --advertise" in told.err

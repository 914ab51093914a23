"""What a real manager and a real worker tell Prometheus, which asks them itself."""

from __future__ import annotations

import time
import urllib.error
from pathlib import Path

import pytest

from tests.cluster import Cluster, free_port, wait_until
from tests.metrics.deployed import OF_SEVERAL, metrics_named, metrics_told
from tests.metrics.prometheus import find_program, promtool, query, scrape, values
from titan.errors import NotFound

CONFIGURATION = """\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: titan-manager
    static_configs:
      - targets: ["{manager}"]
  - job_name: titan-worker
    static_configs:
      - targets: ["{worker}"]
"""


class Watched:
    """A cluster whose manager and worker are asked for their numbers."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.manager = f"127.0.0.1:{free_port()}"
        self.worker = f"127.0.0.1:{free_port()}"

    def start_manager(self) -> None:
        self.cluster.start_manager("--metrics-listen", self.manager)

    def start(self) -> None:
        self.start_manager()
        self.cluster.start_worker("w1", "--cpus", "2", "--metrics-listen", self.worker)

    def of_manager(self) -> dict[str, float]:
        """Its numbers now."""
        return values(scrape(f"http://{self.manager}/metrics"))

    def of_quiet_manager(self) -> dict[str, float]:
        """The same at a moment at which all that was written is durable, as heartbeats are too."""

        def look() -> dict[str, float]:
            numbers = self.of_manager()
            names = ("last_lsn", "durable_lsn", "flush_records_sum")
            return numbers if len({numbers[f"titan_wal_{each}"] for each in names}) == 1 else {}

        return wait_until(look, "all is durable")

    def of_worker(self) -> dict[str, float]:
        """Its numbers now."""
        return values(scrape(f"http://{self.worker}/metrics"))


def states(numbers: dict[str, float], name: str) -> dict[str, float]:
    """What there is of each state, but where there is nothing."""
    found = {
        key.removeprefix(f'{name}{{state="').removesuffix('"}'): value
        for key, value in numbers.items()
        if key.startswith(f'{name}{{state="')
    }
    return {state: value for state, value in found.items() if value}


def ends(numbers: dict[str, float], name: str) -> dict[tuple[str, str], float]:
    """How many attempts ended, by state and reason."""
    prefix = f'{name}{{reason="'
    found = {}
    for key, value in numbers.items():
        if key.startswith(prefix):
            reason, _, state = key.removeprefix(prefix).removesuffix('"}').partition('",state="')
            found[state, reason] = value
    return found


def test_known_jobs_are_counted_exactly_also_across_a_restart(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        watched = Watched(cluster)
        watched.start()
        client = cluster.client()
        jobs = [
            client.submit(["true"]),
            client.submit(["true"], array="1-5"),
            client.submit(["false"]),
            client.submit(["false"], retries=1),
        ]
        client.wait(*(each.id for each in jobs))
        runs = client.submit(["sleep", "1000"], cpus=2)
        wait_until(lambda: watched.of_manager()['titan_tasks{state="RUNNING"}'] == 1, "it runs")
        waiting = client.submit(["true"], cpus=2, array="1-3")
        held = client.submit(["true"], hold=True)
        client.submit(["true"], cpus=2).cancel()
        with pytest.raises(NotFound):
            client.show(77)

        # The caller may hear of a refusal before it is counted.
        refused = 'titan_rpcs_total{code="NOT_FOUND",method="GetJobStatus"}'
        wait_until(lambda: watched.of_manager().get(refused), "all calls are counted")
        numbers = watched.of_quiet_manager()
        ended = {"COMPLETED": 6, "FAILED": 2, "CANCELLED": 1}
        assert states(numbers, "titan_tasks") == {**ended, "PENDING": 4, "RUNNING": 1}
        assert states(numbers, "titan_tasks_ended_total") == ended
        assert states(numbers, "titan_jobs_ended_total") == {**ended, "COMPLETED": 2}
        assert states(numbers, "titan_jobs") == {
            "COMPLETED": 2, "FAILED": 2, "CANCELLED": 1, "PENDING": 2, "RUNNING": 1,
        }  # fmt: skip
        assert ends(numbers, "titan_attempts_ended_total") == {
            ("COMPLETED", "EXIT"): 6,
            ("FAILED", "EXIT"): 3,
        }
        assert numbers["titan_jobs_submitted_total"] == 8
        assert numbers["titan_tasks_submitted_total"] == 14
        assert numbers["titan_task_retries_total"] == 1
        assert numbers["titan_attempts_started_total"] == 10
        # First attempts; each that ended has run.
        assert numbers["titan_task_wait_seconds_count"] == 9
        assert numbers["titan_task_run_seconds_count"] == 9
        assert numbers['titan_rpcs_total{code="OK",method="SubmitJob"}'] == 8
        assert numbers[refused] == 1
        assert numbers["titan_cpus_offered"] == numbers["titan_cpus_promised"] == 2
        assert numbers["titan_memory_offered_bytes"] == 8 << 30
        assert states(numbers, "titan_workers") == {"HEALTHY": 1}
        # The held one is older than none that waits for room.
        assert 0 < numbers["titan_queue_oldest_age_seconds"] < 60
        lsn = numbers["titan_wal_last_lsn"]
        assert numbers["titan_wal_flush_records_sum"] == numbers["titan_wal_durable_lsn"] == lsn

        work = watched.of_worker()
        assert ends(work, "titan_worker_attempts_ended_total") == {
            ("COMPLETED", "EXIT"): 6,
            ("FAILED", "EXIT"): 3,
        }
        assert work["titan_worker_attempts_started_total"] == 10
        assert work["titan_worker_task_run_seconds_count"] == 9
        assert states(work, "titan_worker_attempts") == {"RUNNING": 1}
        assert work["titan_worker_registered"] == 1
        assert work["titan_worker_cpus"] == 2

        cluster.kill_manager()
        watched.start_manager()
        again = watched.of_manager()
        # What is, is so at once; what happened before was another manager's to count.
        assert states(again, "titan_tasks") == states(numbers, "titan_tasks")
        assert states(again, "titan_jobs") == states(numbers, "titan_jobs")
        # Heartbeats may have been written since.
        assert lsn <= again["titan_recovery_records"] < again["titan_wal_last_lsn"]
        assert states(again, "titan_tasks_ended_total") == {}
        assert again["titan_tasks_submitted_total"] == again["titan_task_run_seconds_count"] == 0
        assert again["titan_queue_oldest_age_seconds"] > numbers["titan_queue_oldest_age_seconds"]
        client.cancel(runs.id, waiting.id, held.id)
        wait_until(
            lambda: states(watched.of_manager(), "titan_jobs_ended_total") == {"CANCELLED": 3},
            "all is cancelled",
        )
        client.close()


def test_promtool_finds_nothing_to_mend_and_prometheus_reads_it(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        watched = Watched(cluster)
        watched.start()
        with cluster.client() as client:
            client.submit(["true"]).wait()
        texts = [scrape(f"http://{each}/metrics") for each in (watched.manager, watched.worker)]
        for text in texts:
            assert promtool("check", "metrics", stdin=text) == ""
        told = set().union(*map(metrics_told, texts))
        assert metrics_named() - told == OF_SEVERAL, "dashboard and alerts name what there is"
        configuration = tmp_path / "prometheus.yml"
        configuration.write_text(
            CONFIGURATION.format(manager=watched.manager, worker=watched.worker)
        )
        port = free_port()
        prometheus = cluster.spawn_other(
            find_program("prometheus"),
            f"--config.file={configuration}",
            f"--storage.tsdb.path={tmp_path / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
            name="prometheus",
        )
        prometheus.wait_log("Server is ready to receive web requests.")
        url = f"http://127.0.0.1:{port}"

        def value_of(expression: str) -> float | None:
            try:
                found = query(url, expression)
            except urllib.error.HTTPError:
                return None
            return float(found[0]["value"][1]) if found else None

        def wait_value(expression: str) -> float:
            """On a busy machine an answer may come too late for a scrape, and then there is none
            until the next."""
            return wait_until(lambda: value_of(expression) or 0.0, f"{expression} is scraped")

        wait_until(lambda: value_of("sum(up)") == 2, "both are scraped")
        assert wait_value('titan_tasks_ended_total{state="COMPLETED"}') == 1
        assert wait_value('titan_worker_attempts_ended_total{state="COMPLETED"}') == 1
        assert wait_value("histogram_quantile(1, titan_task_run_seconds_bucket)") > 0
        begun = wait_value('process_start_time_seconds{job="titan-manager"}')
        assert time.time() - 600 < begun <= time.time()
        assert prometheus.end() == 0


def test_what_can_not_be_listened_on_keeps_a_server_from_starting(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        manager = cluster.spawn_manager("--metrics-listen", "0.0.0.0:0")
        worker = cluster.spawn(
            "worker", "--data-dir", str(tmp_path / "w"), "--metrics-listen", "192.0.2.1:1",
            "--insecure-i-know",
        )  # fmt: skip
        assert (manager.process.wait(60), worker.process.wait(60)) == (1, 1)
        assert "0.0.0.0:0 can be reached from other machines" in manager.log
        assert "--metrics-listen 192.0.2.1:1 cannot be listened on" in worker.log

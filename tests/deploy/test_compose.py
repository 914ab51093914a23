"""The compose file: what one part names another has, and nothing is open to other machines."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.deploy.files import DEPLOY, Started, all_started, compose
from tests.metrics.prometheus import promtool

SERVICES = compose()["services"]
MANAGERS = ("manager1", "manager2")
WORKERS = ("w1", "w2")


def command_of(service: str) -> Started:
    """What that one starts."""
    (found,) = [each for each in all_started() if each.where == f"compose.yml: {service}"]
    return found


def option(started: Started, name: str) -> str:
    """The value that it is given."""
    return started.words[started.words.index(name) + 1]


def test_each_volume_is_declared_and_each_file_is_there() -> None:
    named = set()
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).is_file(), source
            else:
                named.add(source)
    assert named == set(compose()["volumes"])


def test_each_waits_for_what_there_is() -> None:
    waited = {name for each in SERVICES.values() for name in each.get("depends_on", ())}
    assert waited == {"certs", "journal", "postgres"}
    assert set(SERVICES["manager1"]["depends_on"]) == {"certs", "journal"}
    for name in ("certs", "journal"):
        assert SERVICES[name]["restart"] == "no", "else it never completes"
    assert "test" in SERVICES["postgres"]["healthcheck"]


def test_other_machines_reach_nothing() -> None:
    ports = [port for each in SERVICES.values() for port in each.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_password_is_in_the_file() -> None:
    for line in (DEPLOY / "compose.yml").read_text().splitlines():
        if "PASSWORD" in line and not line.startswith("#"):
            assert "${POSTGRES_PASSWORD:?" in line


def test_managers_are_called_as_they_say_and_as_their_certificate_does() -> None:
    listed = SERVICES["w1"]["environment"]["TITAN_MANAGER"].split(",")
    said = [option(command_of(name), "--advertise") for name in MANAGERS]
    assert listed == said == [f"{name}:50051" for name in MANAGERS]
    certificate = re.findall(r"issue manager (--host \S+ --host \S+) ", certs_script())
    assert certificate == [" ".join(f"--host {name}" for name in MANAGERS)]


def test_workers_have_the_names_of_their_certificates() -> None:
    for name in WORKERS:
        assert option(command_of(name), "--name") == name
        assert f"issue worker {name} --out" in certs_script()


def certs_script() -> str:
    """What makes the certificates."""
    return (DEPLOY / "compose-certs.sh").read_text()


def test_the_key_for_secrets_is_made_once_and_lies_where_managers_look() -> None:
    made = certs_script().partition('if [ ! -e "$tls/managers/secrets.key" ]; then')[2]
    assert 'mv "$tls/managers/secrets.key.new" "$tls/managers/secrets.key"' in made
    for name in MANAGERS:
        assert SERVICES[name]["environment"]["TITAN_SECRETS_KEY"] == "/etc/titan/tls/secrets.key"
        assert "managers-tls:/etc/titan/tls:ro" in SERVICES[name]["volumes"]


def test_the_key_of_the_ca_is_seen_by_one_service_alone() -> None:
    having = [
        name
        for name, each in SERVICES.items()
        if any(volume.startswith("ca:") for volume in each.get("volumes", ()))
    ]
    assert having == ["certs"]


def test_prometheus_scrapes_all_of_them() -> None:
    said = promtool("check", "config", "--syntax-only", DEPLOY / "compose-prometheus.yml")
    assert "is valid prometheus config file syntax" in said
    jobs: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "compose-prometheus.yml").read_text())[
        "scrape_configs"
    ]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}
    assert targets == {
        "titan-manager": [f"{name}:9464" for name in MANAGERS],
        "titan-worker": [f"{name}:9465" for name in WORKERS],
    }
    environment = SERVICES["manager1"]["environment"]
    assert environment["TITAN_MANAGER_METRICS_LISTEN"] == "0.0.0.0:9464"
    environment = SERVICES["w1"]["environment"]
    assert environment["TITAN_WORKER_METRICS_LISTEN"] == "0.0.0.0:9465"
    assert SERVICES["w1"]["healthcheck"]["test"] == ["CMD", "titan-healthy", "9465/metrics"]

"""The image: what it is made of is there, and the scripts that it and compose run do their work."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cryptography import x509

from tests.deploy.files import DEPLOY
from tests.deploy.programs import find_program
from titan.metrics.family import Family, gauge
from titan.metrics.server import MetricsServer
from titan.tls.identity import Role
from titan.tls.peers import open_peers

ROOT = DEPLOY.parents[1]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def test_the_extras_are_ours_and_what_is_copied_is_sent_to_the_builder() -> None:
    (extras,) = re.findall(r"whl\)\[([a-z,]+)\]", DOCKERFILE)
    assert extras == "postgres,history,tls,metrics,web"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not set(extras.split(",")) - set(project["optional-dependencies"])
    sent = re.findall(r"(?m)^!(.+)$", (DEPLOY / "Dockerfile.dockerignore").read_text())
    assert all((ROOT / name).exists() for name in sent)
    copied = re.findall(r"COPY --chmod=0755 (\S+)", DOCKERFILE)
    assert not set(copied) - set(sent)
    # What the package is built from, and pip's constraints.
    assert {"titan", "wal", "tools/bundle.py", "pyproject.toml", "README.md"} <= set(sent)
    assert {project["readme"], *project["license-files"], "constraints.txt"} <= set(sent)


def test_it_is_no_root_and_has_the_account_that_certificates_are_given_to() -> None:
    (number,) = re.findall(r"useradd --uid (\d+)", DOCKERFILE)
    assert f"USER {number}:{number}\n" in DOCKERFILE
    assert f"chown -R {number}:{number} " in (DEPLOY / "compose-certs.sh").read_text()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What compose's one-shot service makes, run twice as it would be to renew them."""
    directory = tmp_path_factory.mktemp("certs") / "tls"
    for name in ("ca", "managers"):
        (directory / name).mkdir(parents=True)
    make_certificates(directory)
    before = (directory / "ca/ca.pem").read_bytes()
    (directory / "ca/revoked.txt").touch()
    make_certificates(directory)
    assert (directory / "ca/ca.pem").read_bytes() == before, "there is one CA for ever"
    return directory


def make_certificates(directory: Path) -> None:
    """Runs the script with the `titan` of this environment."""
    subprocess.run(
        ["sh", DEPLOY / "compose-certs.sh", directory],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def test_each_gets_the_certificate_that_it_serves_and_asks_with(certificates: Path) -> None:
    of_manager = x509.load_pem_x509_certificate((certificates / "managers/cert.pem").read_bytes())
    names = of_manager.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"manager1", "manager2"} <= set(names.get_values_for_type(x509.DNSName))
    for name, role in (("managers", Role.MANAGER), ("w1", Role.WORKER), ("w2", Role.WORKER)):
        assert open_peers(certificates / name, role).own.role is role
        assert (certificates / name / "revoked.txt").exists()
    assert open_peers(certificates / "web", Role.MANAGER).own.name == "web"
    assert (certificates / "web/user/key.pem").stat().st_mode & 0o777 == 0o600


async def healthy(port: str, path: str, tls: Path | None) -> bool:
    """What titan-healthy says, with these certificates."""
    find_program("curl", "curl")
    environment = {name: value for name, value in os.environ.items() if name != "TITAN_TLS_DIR"}
    if tls is not None:
        environment["TITAN_TLS_DIR"] = str(tls)
    done = await asyncio.create_subprocess_exec(
        DEPLOY / "titan-healthy", f"{port}{path}", env=environment, stderr=subprocess.DEVNULL
    )
    return await done.wait() == 0


async def becomes_healthy(port: str, path: str, tls: Path | None) -> bool:
    """The same, if not at once: it gives up after 5 s, which a machine may stand still for."""
    for _ in range(5):
        if await healthy(port, path, tls):
            return True
    return False


def is_up() -> tuple[Family]:
    """One number."""
    return (gauge("titan_up", "Whether it is.", 1),)


def test_who_answers_is_healthy_to_whoever_has_a_certificate(
    certificates: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "w1.pem"
    parts = ("key.pem", "cert.pem", "ca.pem")
    bundle.write_text("".join((certificates / "w1" / part).read_text() for part in parts))

    async def scenario() -> None:
        peers = open_peers(certificates / "managers", Role.MANAGER)
        server = MetricsServer("127.0.0.1:0", peers=peers, is_insecure=False)
        port = server.address.rpartition(":")[2]
        server.start(is_up)
        assert await becomes_healthy(port, "/metrics", certificates / "managers")
        assert await becomes_healthy(port, "/metrics", bundle)
        assert not await healthy(port, "/metrics", None)
        assert not await healthy(port, "/no-such", certificates / "managers")
        await asyncio.to_thread(server.stop)
        assert not await healthy(port, "/metrics", certificates / "managers"), "nobody is there"

    asyncio.run(scenario())


def test_without_certificates_it_asks_without() -> None:
    async def scenario() -> None:
        server = MetricsServer("127.0.0.1:0", peers=None, is_insecure=False)
        server.start(is_up)
        assert await becomes_healthy(server.address.rpartition(":")[2], "/metrics", None)
        await asyncio.to_thread(server.stop)

    asyncio.run(scenario())

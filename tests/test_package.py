"""What users install: the wheel made from the sdist, in an environment with nothing but it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.cluster import free_port, wait_until
from tools.bundle import find_node

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEVELOPMENT = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]


def run(*command: str | Path, cwd: Path, pages: str = "skip") -> str:
    """Run a command that must succeed and return what it wrote to stdout.

    A wheel that it builds is without the pages: they take node, and time.
    """
    environment = {**os.environ, "TITAN_WEB_BUNDLE": pages}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist and the wheel that was built from it."""
    directory = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, ROOT, cwd=directory)
    return directory


@pytest.fixture(scope="module")
def installed_wheel(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of `titan` in a new environment that holds the wheel and what it depends on.

    The dependencies are links to the files installed here, so nothing is downloaded, and only
    those the wheel declares, and theirs, so a forgotten one is missed.
    """
    environment = tmp_path_factory.mktemp("installed")
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    [wheel] = built.glob("*.whl")
    pip = (sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet")
    run(*pip, "--no-index", "--no-deps", wheel, cwd=environment)
    [site_packages] = environment.glob("lib/python*/site-packages")
    link_dependencies(PROJECT["dependencies"], site_packages)
    return environment / "bin" / "titan"


def link_dependencies(requirements: list[str], site_packages: Path) -> None:
    """Link each required distribution, and what it requires, into `site_packages`."""
    linked = set()
    waiting = list(requirements)
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.name in linked or not applies(requirement):
            continue
        linked.add(requirement.name)
        distribution = metadata.distribution(requirement.name)
        waiting += distribution.requires or []
        for top in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            if not (site_packages / top).exists():
                (site_packages / top).symlink_to(Path(str(distribution.locate_file(top))))


def applies(requirement: Requirement) -> bool:
    """Whether it is needed here and without extras."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def test_the_sdist_is_the_whole_project(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"Makefile", "constraints.txt", "LICENSE", "CHANGELOG.md", "tests/conftest.py"}
    wanted |= {"proto/titan/rpc/v1/manager.proto", "tools/proto.py", ".ci/run"}
    # What the pages are bundled from, but neither what npm brings nor the bundle.
    wanted |= {f"titan/web/frontend/{name}" for name in ("package-lock.json", "src/main.tsx")}
    assert wanted <= names
    assert not [name for name in names if "/node_modules/" in name or "/static/" in name]
    top_folders = {name.partition("/")[0] for name in names if "/" in name}
    assert top_folders == {".ci", "proto", "tests", "titan", "tools", "wal"}


def test_sdist_and_tree_build_the_same_wheel(built: Path, tmp_path: Path) -> None:
    run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT),
        cwd=tmp_path,
    )
    [from_sdist], [from_tree] = built.glob("*.whl"), tmp_path.glob("*.whl")
    with zipfile.ZipFile(from_sdist) as one, zipfile.ZipFile(from_tree) as other:
        assert one.namelist() == other.namelist()
        assert [one.read(name) for name in one.namelist()] == [
            other.read(name) for name in other.namelist()
        ]
        assert {"titan/py.typed", "wal/py.typed", "titan/rpc/v1/manager_pb2.pyi"} <= set(
            one.namelist()
        )


@pytest.mark.skipif(not os.environ.get("TITAN_CI") and not find_node(), reason="there is no node")
def test_a_wheel_built_with_node_has_the_pages_and_not_what_they_are_made_of(
    tmp_path: Path,
) -> None:
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path)
    run(*build, ROOT, cwd=tmp_path, pages="required")
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("titan/web/")}
        page = archive.read("titan/web/static/index.html").decode()
    assert not [name for name in names if "/frontend/" in name]
    wanted = set(re.findall(r'"/(assets/[^"]+)"', page)) | {"assets/licenses.txt"}
    assert len(wanted) == 4
    assert {name.partition("static/")[2] for name in names if "/assets/" in name} == wanted


def test_the_wheel_imports_from_where_it_is_installed(
    installed_wheel: Path, tmp_path: Path
) -> None:
    program = "import titan, wal; print(titan.__file__); print(wal.__file__)"
    python = installed_wheel.parent / "python"
    files = run(python, "-c", program, cwd=tmp_path).split()
    assert all(Path(file).is_relative_to(installed_wheel.parents[1]) for file in files)
    assert all((Path(file).parent / "py.typed").is_file() for file in files)


def test_every_module_of_the_wheel_imports_with_the_declared_dependencies(
    installed_wheel: Path, tmp_path: Path
) -> None:
    program = (
        "import importlib, pkgutil, titan, wal\n"
        "for package in (titan, wal):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if module.name.endswith('__main__'):\n"
        "            continue\n"
        "        try:\n"
        "            importlib.import_module(module.name)\n"
        "        except ModuleNotFoundError as error:\n"
        # Each of these may need an extra of its own.
        "            if (module.name.split('.')[1], error.name) not in {\n"
        "                ('certs', 'cryptography'),\n"
        "                ('history', 'sqlalchemy'),\n"
        "                ('history', 'alembic'),\n"
        "                ('metrics', 'prometheus_client'),\n"
        "                ('tracing', 'opentelemetry'),\n"
        "                ('cli', 'textual'),\n"
        "                ('web', 'starlette'),\n"
        "                ('web', 'uvicorn'),\n"
        "            }:\n"
        "                raise\n"
    )
    run(installed_wheel.parent / "python", "-W", "error", "-c", program, cwd=tmp_path)


def test_the_command_tells_its_usage_and_version(installed_wheel: Path, tmp_path: Path) -> None:
    assert "submit" in run(installed_wheel, "--help", cwd=tmp_path)
    assert PROJECT["version"] in run(installed_wheel, "--version", cwd=tmp_path)


def test_certificates_ask_for_the_extra_that_they_need_and_tokens_for_none(
    installed_wheel: Path, tmp_path: Path
) -> None:
    def titan(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [installed_wheel, *arguments, "--tls-dir", tmp_path]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    for command in (("certs", "init"), ("certs", "issue", "worker", "w1"), ("certs", "list")):
        done = titan(*command)
        assert (done.returncode, done.stderr) == (
            1,
            "titan: certificates need cryptography: pip install 'titan-scheduler[tls]'\n",
        )
    assert list(tmp_path.iterdir()) == []
    assert titan("token", "issue", "ada").stdout.startswith("ada.")


def test_the_installed_command_runs_a_cluster_a_job_and_shows_its_output(
    installed_wheel: Path, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "TITAN_MANAGER": address,
        "PATH": "/usr/bin:/bin",
    }
    log = tmp_path / "dev.log"
    with log.open("wb") as output:
        dev = subprocess.Popen(
            [installed_wheel, "dev", "--listen", address],
            cwd=tmp_path,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: "Ctrl-C stops it all." in log.read_text(), "dev has greeted")

        def titan(*arguments: str) -> str:
            done = subprocess.run(
                [installed_wheel, *arguments],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert titan("submit", "--wait", "echo", "from the wheel") == "Submitted job 1\n"
        assert titan("logs", "last") == "from the wheel\n"
    finally:
        dev.send_signal(signal.SIGINT)
        assert dev.wait(timeout=30) == 130, log.read_text()


def test_the_least_versions_are_those_the_generated_code_accepts() -> None:
    generated = ROOT / "titan" / "rpc" / "v1"
    grpc = re.search(
        r"GRPC_GENERATED_VERSION = '(.+)'", (generated / "manager_pb2_grpc.py").read_text()
    )
    protobuf = re.search(
        r"Protobuf Python Version: (.+)", (generated / "manager_pb2.py").read_text()
    )
    assert grpc
    assert protobuf
    wanted = {f"grpcio>={grpc[1]}", f"protobuf>={protobuf[1]}"}
    assert wanted <= set(PROJECT["dependencies"])


def test_the_constraints_pin_every_development_package() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    pinned = {line.partition("==")[0] for line in pins}
    assert {Requirement(line).name for line in DEVELOPMENT} <= pinned


def test_make_stops_with_the_line_to_type_where_python_has_no_venv(tmp_path: Path) -> None:
    assert "apt-get install python3-venv\n" in make_venv_with(
        tmp_path, 'case "$2" in *ensurepip*) exit 1 ;; esac'
    )


def test_make_stops_with_the_line_to_type_where_python_is_too_old(tmp_path: Path) -> None:
    assert "apt-get install python3.11 python3.11-venv\n" in make_venv_with(tmp_path, "exit 1")


def make_venv_with(directory: Path, python3: str) -> str:
    """Run tools/make-venv.sh with a fake python3, the only Python there; return its stderr."""
    commands = directory / "bin"
    commands.mkdir()
    for name in ("sh", "id", "basename"):
        (commands / name).symlink_to(shutil.which(name) or name)
    fake = commands / "python3"
    fake.write_text(f"#!/bin/sh\n{python3}\n")
    fake.chmod(0o755)
    done = subprocess.run(
        [ROOT / "tools" / "make-venv.sh"],
        cwd=directory,
        env={"PATH": str(commands)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert not (directory / ".venv").exists()
    return done.stderr

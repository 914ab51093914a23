"""`--script FILE`: its text, and the options that stand in it, as users of sbatch know them.

    #!/bin/bash
    #TITAN --cpus 2 --time-limit 1h
    #TITAN --env "GREETING=good morning"

They are read up to the first line that is neither a comment nor blank, by the very options of
the command. What the command line says wins, and so does an environment variable
(TITAN_SUBMIT_CPUS); of options that may be repeated both count, and for the same name the
command line's.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from click.core import ParameterSource

from titan.cli.command import say
from titan.client.scripts import NAMELESS, Script, checked, script_of
from titan.errors import InvalidJob
from titan.model import SCRIPT_BYTES_MAX

_OURS: Final = "#TITAN"
_SLURMS: Final = "#SBATCH"
# They say how to submit, or what the file itself says by being there.
_NOT_IN_A_SCRIPT: Final = frozenset(
    {
        *("script", "worker_script", "shell", "request_id", "wait", "quiet"),
        *("retry_for", "manager", "access", "json", "file", "dry_run"),
    }
)
_WINNING: Final = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


class Directives(NamedTuple):
    """What stands in the comments at the beginning of a script."""

    ours: list[tuple[int, str]]
    """#TITAN lines: the line's number, and what follows the word."""
    slurms: list[int]
    """The numbers of #SBATCH lines."""


def read_script(ctx: click.Context, path: str) -> Script:
    """The file, or stdin for `-`. What is wrong with it is a usage error."""
    try:
        if path != "-":
            return script_of(Path(path))
        text = sys.stdin.buffer.read(SCRIPT_BYTES_MAX + 1)
        return checked(Script(NAMELESS, text), "on stdin")
    except InvalidJob as error:
        raise click.UsageError(str(error), ctx) from error


def with_directives(
    ctx: click.Context, path: str, text: bytes, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The options that were given, and those of the script. A bad one is a usage error."""
    shown = "stdin" if path == "-" else path
    directives = find_directives(text)
    if directives.slurms:
        lines = " ".join(map(str, directives.slurms))
        say(f"{shown}: ignored #SBATCH (lines: {lines}); options for Titan are in #TITAN lines")
    found: dict[str, Any] = {}
    repeated: set[str] = set()
    for number, words in directives.ours:
        for option, value in _parse(ctx, f"{shown}, line {number}", words):
            assert option.name is not None
            if option.multiple:
                repeated.add(option.name)
                found[option.name] = (*found.get(option.name, ()), *value)
            else:
                found[option.name] = value
    merged = dict(given)
    for name, value in found.items():
        if name in repeated:
            # Of the same name the last one counts.
            merged[name] = (*value, *merged[name])
        elif ctx.get_parameter_source(name) not in _WINNING:
            merged[name] = value
    return merged


def find_directives(text: bytes) -> Directives:
    """Those in the lines before the first one that is neither a comment nor blank."""
    ours: list[tuple[int, str]] = []
    slurms: list[int] = []
    for number, line in enumerate(_lines(text), 1):
        if line and not line.startswith("#"):
            break
        word, *rest = line.split(None, 1) or [""]
        if word == _OURS:
            ours.append((number, rest[0] if rest else ""))
        elif word == _SLURMS:
            slurms.append(number)
    return Directives(ours, slurms)


def _lines(text: bytes) -> Iterator[str]:
    """One by one: behind the first ones a megabyte may follow."""
    start = 0
    while start < len(text):
        end = text.find(b"\n", start)
        end = len(text) if end < 0 else end
        yield os.fsdecode(text[start:end]).strip()
        start = end + 1


def _parse(ctx: click.Context, where: str, line: str) -> Iterator[tuple[click.Option, Any]]:
    """The options in a line and their values, by the command's own options."""
    options = [each for each in ctx.command.params if isinstance(each, click.Option)]
    # Without a parent: the environment has had its say.
    reader = click.Command(
        ctx.info_name,
        params=[*options],
        add_help_option=False,
        context_settings={"allow_extra_args": True},
    )
    try:
        parsed = reader.make_context(ctx.info_name, shlex.split(line))
    except ValueError as error:
        raise click.UsageError(f"{where}: {str(error).lower()}", ctx) from error
    except click.UsageError as error:
        raise click.UsageError(f"{where}: {error.format_message()}", ctx) from error
    if parsed.args:
        raise click.UsageError(
            f"{where}: {parsed.args[0]!r} is no option; the script's arguments are given on the "
            "command line, and a value with blanks in quotes",
            ctx,
        )
    for option in options:
        assert option.name is not None
        if parsed.get_parameter_source(option.name) is not ParameterSource.COMMANDLINE:
            continue
        if option.name in _NOT_IN_A_SCRIPT:
            raise click.UsageError(
                f"{where}: {option.opts[-1]} makes no sense in a script; give it on the "
                "command line",
                ctx,
            )
        yield option, parsed.params[option.name]

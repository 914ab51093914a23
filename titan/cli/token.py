"""`titan token`: for places where a certificate is awkward."""

from __future__ import annotations

import time
from typing import Any

import click

from titan.cli.command import Command, Settings, say
from titan.cli.params import DURATION
from titan.cli.table import print_table
from titan.cli.text import local_time, print_json, printable
from titan.cli.tls_directory import tls_directory
from titan.errors import NotFound, TitanError
from titan.tls.user_tokens import FILE_NAME, Entry, TokenFile, draw


@click.group(
    epilog="""\b
Examples:
  titan token issue ada --expires 30d
  titan token list
  titan token revoke ada
"""
)
def token() -> None:
    """Make tokens, which prove a user where a certificate is awkward.

    They are kept in DIR/tokens.json, hashed, and are taken over TLS only.
    """


@click.command(
    cls=Command,
    takes=("tls_dir", "json"),
    epilog="""\b
Examples:
  titan token issue ada > ada.token
  titan token issue ci --expires 12h
""",
)
@click.argument("user")
@click.option(
    "--expires",
    type=DURATION,
    default="30d",
    show_default=True,
    metavar="TIME",
    help="How long it is valid.",
)
@click.option("--admin", is_flag=True, help="For one who may do everything, with everybody's jobs.")
@click.pass_obj
def issue(settings: Settings, *, user: str, expires: float, admin: bool) -> int:
    """Make a token for USER and print it.

    It alone goes to stdout, and it cannot be printed again.
    """
    if not expires:
        raise click.UsageError("--expires 0: that token would never be valid")
    now = time.time()
    try:
        text, entry = draw(user, is_admin=admin, expires_at=now + expires, now=now)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    file = _token_file(settings)
    try:
        file.add(entry)
    except ValueError as error:
        raise TitanError(str(error)) from error
    if settings.json:
        print_json({**_view(entry, now), "token": text})
        return 0
    print(text)
    say(
        f"token {entry.id} of {entry.user}, until {local_time(entry.expires)}; "
        f"`titan token revoke {entry.id}` ends it"
    )
    return 0


@click.command(
    "list",
    cls=Command,
    takes=("tls_dir", "json"),
    epilog="""\b
Example:
  titan token list --json
""",
)
@click.pass_obj
def list_(settings: Settings) -> int:
    """List tokens, the oldest first, without their secrets."""
    try:
        entries = _token_file(settings).entries()
    except ValueError as error:
        raise TitanError(str(error)) from error
    views = [_view(each, time.time()) for each in entries]
    if settings.json:
        print_json(views)
        return 0
    rows = [
        (
            view["id"],
            view["user"],
            "yes" if view["is_admin"] else "no",
            local_time(view["create_time"]),
            local_time(view["end_time"]),
            view["state"],
        )
        for view in views
    ]
    print_table(("ID", "USER", "ADMIN", "CREATED", "UNTIL", "STATE"), rows, cut=("USER",))
    return 0


@click.command(
    cls=Command,
    takes=("tls_dir", "json"),
    epilog="""\b
Examples:
  titan token revoke 4b1f0c2d9a77
  titan token revoke ada
""",
)
@click.argument("names", metavar="ID|USER...", nargs=-1, required=True)
@click.pass_obj
def revoke(settings: Settings, *, names: tuple[str, ...]) -> int:
    """End tokens, by their ids, or all of a user's."""
    try:
        removed = _token_file(settings).remove(names)
    except KeyError as error:
        raise NotFound(f"there is no token {error.args[0]!r}, nor one of such a user") from error
    except ValueError as error:
        raise TitanError(str(error)) from error
    if settings.json:
        print_json([{"id": each.id, "user": each.user} for each in removed])
        return 0
    for each in removed:
        print(printable(f"Revoked token {each.id} of {each.user}"))
    return 0


for command in (issue, list_, revoke):
    token.add_command(command)


def _token_file(settings: Settings) -> TokenFile:
    return TokenFile(tls_directory(settings.tls_dir) / FILE_NAME)


def _view(entry: Entry, now: float) -> dict[str, Any]:
    return {
        "id": entry.id,
        "user": entry.user,
        "is_admin": entry.is_admin,
        "create_time": entry.created,
        "end_time": entry.expires,
        "state": "EXPIRED" if entry.has_expired(now) else "VALID",
    }

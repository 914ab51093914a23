"""The lookback process: answers one question after another on a socket of the manager.

    python -m titan.lookback DATA_DIRECTORY LOG_FORMAT SOCKET

It lives as long as the manager wants it: when the socket is closed it ends, and when the
manager dies, however that is, Linux ends it. It gives way to everything else on the machine.
"""

from __future__ import annotations

import gc
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from titan import errors, logs
from titan.errors import Refused, TitanError
from titan.logs import LogLine
from titan.lookback.answers import Answers, handlers
from titan.lookback.past import Past
from titan.parent import become_helper
from titan.rpc.frames import REPLY_BYTES_MAX, Answer, decode_question, encode, receive

_log = logging.getLogger("titan.lookback")

NICENESS: Final = 10
# Then somebody else may ask, and the manager can say that it goes on.
LOOK_SECONDS: Final = 1.5


def main(arguments: list[str]) -> int:
    """Serves until the socket is closed."""
    directory, log_format, descriptor = Path(arguments[0]), arguments[1], int(arguments[2])
    # A manager that is gone already is told by its end of the socket.
    become_helper(None, NICENESS)
    logs.set_up("warning", log_format)
    # Modules are never garbage, and states are large.
    gc.freeze()
    with socket.socket(fileno=descriptor) as connection:
        serve(connection, handlers(Answers(Past(directory), look_seconds=LOOK_SECONDS)))
    return 0


def serve(connection: socket.socket, known: dict[str, Callable[[bytes], bytes]]) -> None:
    """Answers until the other side closes the socket."""
    while (body := receive(connection)) is not None:
        question = decode_question(body)
        connection.sendall(encode(_answer(known, question.method, question.request)))


def _answer(known: dict[str, Callable[[bytes], bytes]], method: str, request: bytes) -> Answer:
    try:
        reply = known[method](request)
        if len(reply) > REPLY_BYTES_MAX:
            raise Refused(
                f"the answer takes {len(reply) / (1 << 20):.1f} MiB, more than a message does: "
                "ask for less at once"
            )
        return Answer("", "", reply)
    except TitanError as error:
        # The manager knows the public classes; any other is one of these.
        names = [each.__name__ for each in type(error).__mro__ if hasattr(errors, each.__name__)]
        return Answer(names[0], str(error), b"")
    except Exception as error:  # noqa: BLE001  (answered, and logged)
        # One question must not end the answers to others.
        _log.exception(LogLine("a question about the past failed", method=method))
        return Answer(TitanError.__name__, f"the question could not be answered: {error!r}", b"")

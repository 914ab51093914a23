"""The lookback process answers whatever it is asked, and lives on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from titan.lookback.server import serve
from titan.rpc import frames
from titan.rpc.frames import Answer, Question


def ask(known: dict[str, Callable[[bytes], bytes]], *questions: Question) -> list[Answer]:
    """The answers of one that has these handlers."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as stream:
        served = threading.Thread(target=serve, args=(theirs, known))
        served.start()
        answers = []
        for question in questions:
            ours.sendall(frames.encode(question))
            size = frames.body_bytes(stream.read(frames.HEADER.size))
            answers.append(frames.decode_answer(stream.read(size)))
        ours.shutdown(socket.SHUT_RDWR)
        served.join(20)
        assert not served.is_alive()
    return answers


def test_an_answer_that_is_too_large_for_a_message_is_an_error_that_says_so() -> None:
    sizes = (frames.REPLY_BYTES_MAX, frames.REPLY_BYTES_MAX + 1, frames.FRAME_BYTES_MAX + 1, 3)
    known = {"Zeros": lambda request: bytes(int(request))}
    fits, *others, small = ask(known, *(Question("Zeros", b"%d" % size) for size in sizes))
    assert (fits.error, len(fits.reply)) == ("", frames.REPLY_BYTES_MAX)
    assert small.reply == bytes(3)
    for answer in others:
        assert (answer.error, answer.reply) == ("Refused", b"")
        assert "MiB, more than a message does: ask for less at once" in answer.text

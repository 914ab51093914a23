"""What the journal in the database can answer besides success, a class for each decision."""

from __future__ import annotations

from titan.errors import TitanError


class JournalUnavailable(TitanError):
    """It cannot be reached now, or did not answer in time: asking again later may help."""


class JournalRefused(TitanError):
    """It cannot be used; the text says why and what to do."""


class Deposed(Exception):
    """Another term leads, or the journal is not what this term has written: nothing was appended.

    Nor can this term ever append again.
    """


class InDoubt(Exception):
    """Nobody knows whether it was written, or whether it stays: only a new term finds out."""


class JournalFull(Exception):
    """It surely was not written, for now: the same again, later."""

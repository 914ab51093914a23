from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import struct
import wal


class Row(NamedTuple):
    first_lsn: int
    last_lsn: int
    term: int
    chain: int
    body: bytes

    def records(self) -> Iterator[list[wal.Record]]:
        return wal.unpack_records(self.first_lsn, self.last_lsn - self.first_lsn + 1, self.body, "row")


def encode(first_lsn: int, payloads: Sequence[bytes], chain_before: int, term: int) -> Row:
    body, chain = wal.pack_records(payloads, chain_before)
    return Row(first_lsn, first_lsn + len(payloads) - 1, term, chain, body)

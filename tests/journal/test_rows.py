"""A row and what is in it."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wal
from titan.journal.rows import Row, check, encode

LOG_ID = bytes(range(16))
PAYLOADS = st.lists(st.binary(max_size=40), min_size=1, max_size=30)
CHAINS = st.integers(0, 2**32 - 1)


@given(PAYLOADS, st.integers(1, 2**60), CHAINS, st.integers(1, 2**60))
def test_what_was_put_into_a_row_comes_out_of_it(
    payloads: list[bytes], first_lsn: int, chain: int, term: int
) -> None:
    row = encode(first_lsn, payloads, chain, term)
    records = [record for some in row.records() for record in some]
    assert [record.payload for record in records] == payloads
    assert [record.lsn for record in records] == list(range(first_lsn, row.last_lsn + 1))
    before = wal.Position(LOG_ID, first_lsn - 1, chain)
    assert check(row, before) == wal.Position(LOG_ID, row.last_lsn, row.chain)


@given(PAYLOADS, CHAINS)
def test_a_row_has_the_body_and_the_chain_of_a_frame(payloads: list[bytes], chain: int) -> None:
    row = encode(7, payloads, chain, 1)
    assert (row.body, row.chain) == wal.pack_records(payloads, chain)


@given(PAYLOADS, CHAINS, st.data())
def test_any_bit_that_changed_is_found(
    payloads: list[bytes], chain: int, data: st.DataObject
) -> None:
    row = encode(5, payloads, chain, 1)
    at = data.draw(st.integers(0, 8 * len(row.body) - 1))
    body = bytearray(row.body)
    body[at // 8] ^= 1 << at % 8
    with pytest.raises(wal.Damaged, match="row of record 5"):
        check(row._replace(body=bytes(body)), wal.Position(LOG_ID, 4, chain))


WRONG = [
    ({"first_lsn": 6}, "expected record 5, found record 6"),
    ({"last_lsn": 4}, "records 5 to 4"),
    ({"last_lsn": 900}, "records 5 to 900"),
    ({"last_lsn": 7}, "lengths that sum up to"),
    ({"chain": 1}, "expected chain CRC 00000001"),
    ({"body": b""}, "found 0 bytes"),
]


@pytest.mark.parametrize(("change", "sentence"), WRONG, ids=range(len(WRONG)))
def test_a_row_that_is_not_what_should_follow_is_damage(
    change: dict[str, int], sentence: str
) -> None:
    row = encode(5, [b"one", b"two"], 9, 1)
    before = wal.Position(LOG_ID, 4, 9)
    check(row, before)
    with pytest.raises(wal.Damaged, match=sentence):
        check(row._replace(**change), before)  # type: ignore[arg-type]


def test_a_row_behind_another_chain_is_damage() -> None:
    row = encode(5, [b"one"], 9, 1)
    with pytest.raises(wal.Damaged, match="chain CRC"):
        check(row, wal.Position(LOG_ID, 4, 8))


def test_records_of_a_row_that_is_none_are_refused() -> None:
    with pytest.raises(wal.Damaged, match="3 records"):
        Row(1, 3, 1, 0, b"").records()
    body = b"\x09\0\0\0x"
    with pytest.raises(wal.Damaged, match="lengths that sum up to 9"):
        list(Row(1, 1, 1, zlib.crc32(body), body).records())

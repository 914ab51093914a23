"""A manager starts on a log that was cut, and refuses one that was changed, saying what to do."""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

import wal
from tests.cluster import Cluster
from wal.directory import find_segments, segment_name
from wal.filesystem import OS_FILE_SYSTEM
from wal.layout import FORMAT_VERSION, SEGMENT_HEADER_BYTES
from wal.segment import Segment

JOBS = 5


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose manager was killed after some jobs were accepted, each in its own frame."""
    with Cluster(tmp_path_factory.mktemp("damage") / "cluster") as cluster:
        cluster.start_manager()
        with cluster.client() as client:
            for number in range(JOBS):
                client.submit(["true"], name=f"job-{number}")
        cluster.kill_manager()
        yield cluster


class Log:
    """A copy of the written directory, to be bent."""

    def __init__(self, cluster: Cluster, copy: Path) -> None:
        shutil.copytree(cluster.manager_directory, copy)
        self.directory = copy
        (self.first_lsn,) = find_segments(OS_FILE_SYSTEM, str(copy / "wal"))
        self.segment = copy / "wal" / segment_name(self.first_lsn)
        segment = Segment(OS_FILE_SYSTEM, str(copy / "wal"), self.first_lsn)
        # Where each frame begins, and where the last one ends.
        self.offsets = [segment.offset]
        for _ in segment.frames():
            self.offsets.append(segment.offset)
        segment.close()

    def flip(self, offset: int) -> None:
        """One bit of that byte becomes another."""
        with self.segment.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))

    def content(self) -> bytes:
        """Every byte of it that was written."""
        with self.segment.open("rb") as file:
            return file.read(self.offsets[-1])


def start_on(cluster: Cluster, directory: Path) -> tuple[int, str]:
    """The exit code and log of a manager that does not come up."""
    server = cluster.spawn(
        "manager", "--data-dir", str(directory), "--listen", "127.0.0.1:0", name="refused"
    )
    return server.process.wait(60), server.log


def test_a_flipped_byte_before_the_last_frame_is_refused_with_the_place_and_the_command(
    written: Cluster, tmp_path: Path
) -> None:
    log = Log(written, tmp_path / "copy")
    place = log.offsets[2]
    log.flip(place + 40)
    before = log.content()
    code, told = start_on(written, log.directory)
    assert code == 1
    assert "Traceback" not in told
    assert f"{log.segment}: damaged at byte {place}" in told
    assert f"`titan wal verify {log.directory}`" in told
    assert f"`titan wal repair {log.directory}`" in told
    assert log.content() == before, "a damaged log is left as it is"


def test_the_command_that_inspects_a_damaged_log_shows_what_is_before_the_damage(
    written: Cluster, tmp_path: Path
) -> None:
    log = Log(written, tmp_path / "copy")
    log.flip(log.offsets[2] + 40)
    result = written.titan("wal", "dump", str(log.directory))
    assert result.returncode == 1
    assert b"ClusterCreated" in result.stdout
    assert b"damaged at byte %d" % log.offsets[2] in result.stderr
    assert b"Traceback" not in result.stderr


def test_a_log_of_a_newer_format_is_another_error_than_a_damaged_one(
    written: Cluster, tmp_path: Path
) -> None:
    log = Log(written, tmp_path / "copy")
    with log.segment.open("r+b") as file:
        header = bytearray(file.read(SEGMENT_HEADER_BYTES))
        header[8:12] = struct.pack("<I", FORMAT_VERSION + 1)
        header[-4:] = struct.pack("<I", zlib.crc32(header[:-4]))
        file.seek(0)
        file.write(header)
    code, told = start_on(written, log.directory)
    assert code == 1
    assert f"format version {FORMAT_VERSION + 1} is newer than {FORMAT_VERSION}" in told
    assert "damaged" not in told
    assert "Traceback" not in told


def test_an_event_of_a_later_version_is_refused_and_never_skipped(
    written: Cluster, tmp_path: Path
) -> None:
    log = Log(written, tmp_path / "copy")
    with wal.Log.open(log.directory / "wal") as opened:
        opened.append(msgpack.packb((2**60, [(9999, "from the future")])))
        opened.flush()
    code, told = start_on(written, log.directory)
    assert code == 1
    assert "written by a later version of Titan" in told
    assert "event code 9999" in told
    assert "Traceback" not in told


def test_a_torn_tail_is_put_aside_with_a_warning_and_the_rest_is_there(
    written: Cluster, tmp_path: Path
) -> None:
    log = Log(written, tmp_path / "copy")
    # The crash came while the last frame was being written: nobody was told of it.
    start, end = log.offsets[-2:]
    with log.segment.open("r+b") as file:
        file.seek(start + 30)
        file.write(bytes(end - start - 30))
    (log.directory / "wal" / "durable").unlink()
    server = written.spawn(
        "manager", "--data-dir", str(log.directory), "--listen", "127.0.0.1:0", name="torn"
    )
    told = server.wait_log("the manager is ready")
    # The first that is said: before it stands the time alone.
    assert told.split()[1] == "WARNING"
    assert f"jobs={JOBS - 1} " in told
    assert list((log.directory / "wal").glob("*torn*")), "the torn bytes are kept"
    assert server.end() == 0

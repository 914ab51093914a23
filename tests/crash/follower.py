"""Reads a manager's log along, holding what it has not read, so that a log that is cut is told."""

from __future__ import annotations

import threading
from pathlib import Path

import wal
from tests.crash.story import Story
from wal import write_slot

_LOOK_SECONDS = 0.02


class Follower(threading.Thread):
    """Tells the story of a log while it is written, whoever starts and dies meanwhile."""

    def __init__(self, directory: Path) -> None:
        """Begins with the first record that there is, and from now on none is removed unread."""
        super().__init__(name="follower", daemon=True)
        self.story = Story()
        self.errors: list[BaseException] = []
        self._readers = directory / "readers"
        self._reader = wal.Reader(directory / "wal")
        self._is_over = threading.Event()
        write_slot(self._readers, "follower", self._reader.position)

    def run(self) -> None:
        try:
            with self._reader:
                while not self._is_over.wait(_LOOK_SECONDS):
                    self._read()
                # What was durable when it was told to stop.
                self._read()
        except BaseException as error:  # noqa: BLE001  (told by the test)
            self.errors.append(error)

    def stop(self) -> None:
        """Once it has read what there is."""
        self._is_over.set()
        self.join()

    def _read(self) -> None:
        records = self._reader.read()
        for lsn, payload in records:
            self.story.tell_record(lsn, payload)
        if records:
            write_slot(self._readers, "follower", self._reader.position)

#!/usr/bin/env python3
"""Shows a log: `tools/waldump.py DIR`, an event a line as a JSON object.

The same as `titan wal dump DIR`, for a checkout in which nothing is installed but what
Titan depends on. DIR is a manager's data directory or its folder `wal`; a log that is
being written may be read.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import wal
from titan.events import EventError
from titan.waltools.dump import dump_events


def main(arguments: list[str]) -> int:
    """Prints the log named by the one argument and returns the exit code."""
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    try:
        for event in dump_events(Path(arguments[0])):
            print(json.dumps(event, ensure_ascii=False))
    except BrokenPipeError:
        # Whoever read this has enough; nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (wal.WalError, OSError, EventError) as error:
        print(f"waldump: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

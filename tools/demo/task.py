"""What each task of the demonstration does: hash and compress one file, leave the result.

`task.py LIST RESULTS` takes the line of LIST that TITAN_TASK_INDEX numbers. It also adds a
line to RESULTS/runs, so that whoever checks can count how often each task really ran.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import sys
from pathlib import Path

# Small files many times over: about half a second of work for each task.
WORK_BYTES = 300_000


def process(path: Path) -> dict[str, object]:
    """The result for one file, the same wherever it is computed."""
    content = path.read_bytes()
    repeated = content * max(WORK_BYTES // max(len(content), 1), 1)
    return {
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "compressed_bytes": len(lzma.compress(repeated, preset=9)),
    }


def main() -> int:
    """Does the one task of this process."""
    listing, results = Path(sys.argv[1]), Path(sys.argv[2])
    index = int(os.environ["TITAN_TASK_INDEX"])
    runs = os.open(results / "runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(runs, f"{index}\n".encode())
    os.close(runs)
    result = process(Path(listing.read_text().splitlines()[index]))
    (results / f"{index}.json").write_text(json.dumps(result))
    print(f"{result['file']}: {result['size_bytes']} bytes, sha256 {result['sha256']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`make chaos-ha`: several managers over PostgreSQL, broken round by round, each of them judged.

See the last part of tools/chaos/README.md.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

from tools.chaos.evidence import EvidenceError
from tools.chaos.judge import tell_story, tell_verdict
from tools.chaos.processes import ChaosError
from tools.chaos.several.pauses import find_slow, tell_pauses
from tools.chaos.several.postgresql import Pair
from tools.chaos.several.rounds import NAMES
from tools.chaos.several.run import Given, Run, say

# What a machine of two cores adds to what is promised: it has a dozen servers and all tasks to run.
GRACE_SECONDS: Final = 1.0
STORY_LINES_MAX: Final = 120


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0, or 1 when something was found, or 2 when nothing was tried."""
    parser = argparse.ArgumentParser(prog="python -m tools.chaos.several", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, help="of the faults and of the load")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--lease", type=float, default=2.0, help="in seconds")
    parser.add_argument(
        "--timeout", type=float, default=6.0, help="the managers' heartbeat timeout in seconds"
    )
    parser.add_argument(
        "--kind", action="append", choices=NAMES, help="only rounds of these kinds (repeat it)"
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=GRACE_SECONDS,
        help="what a pause may last beyond what is promised, in seconds",
    )
    parser.add_argument("--keep", action="store_true", help="keep the directory in any case")
    given = parser.parse_args(arguments)
    if given.seed is None:
        given.seed = secrets.randbelow(1_000_000)
    root = Path(tempfile.mkdtemp(prefix="titan-chaos-ha-"))
    # Whoever ends it early leaves nothing either.
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Not for nohup(1), which is there so that it goes on.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        code = _run(root, given)
    except KeyboardInterrupt:
        print(f"chaos: ended early; see {root}", file=sys.stderr)
        return 130
    except (ChaosError, EvidenceError, OSError) as error:
        print(f"chaos: {error}; see {root}", file=sys.stderr)
        return 2
    if code or given.keep:
        say(f"everything is in {root}")
    else:
        shutil.rmtree(root)
    return code


def _run(root: Path, given: argparse.Namespace) -> int:
    say(
        f"seed {given.seed}, {given.rounds} rounds, lease {given.lease:g} s, heartbeat timeout "
        f"{given.timeout:g} s, in {root}"
    )
    wanted = Given(
        seed=given.seed,
        rounds=given.rounds,
        kinds=given.kind or NAMES,
        workers=given.workers,
        lease_seconds=given.lease,
        timeout_seconds=given.timeout,
    )
    with Pair() as pair:
        run = Run(root, wanted, pair)
        try:
            run.perform()
        finally:
            run.close()
            pair.keep_logs(root)
    return _report(run, given)


def _report(run: Run, given: argparse.Namespace) -> int:
    verdict = run.verdict
    print(f"seed {given.seed}, {len(run.pauses)} rounds, lease {given.lease:g} s")
    for line in tell_pauses(run.pauses, given.lease, given.grace):
        print(line)
    for line in tell_verdict(verdict):
        print(line)
    slow = [*find_slow(run.pauses, given.lease, given.grace)]
    for line in slow:
        print(f"SLOW: {line}")
    job_id = next((each.job_id for each in verdict.violations if each.job_id), 0)
    if job_id:
        print(f"the story of job {job_id}:")
        for line in [*tell_story(job_id, run.evidence)][:STORY_LINES_MAX]:
            print(f"  {line}")
    return 1 if verdict.violations or slow else 0


if __name__ == "__main__":
    sys.exit(main())

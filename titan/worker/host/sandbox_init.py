"""The first process in a sandbox: it starts the command, reaps, and tells how it ended.

bwrap itself tells neither whether a signal ended what it ran nor what that used. This text is run
by `python -I -S` from a descriptor, as an account that need not be able to read Titan's files, and
so it needs nothing but the standard library. Its arguments: the descriptor to tell by, resource
limits as name:soft:hard with commas between, and the command.

As the process 1 of the sandbox it gets no signal but SIGKILL from outside, and all others in there
end with it.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import struct
import sys

# Whether the command ran; its wait status, or why it did not run; cpu times in microseconds; bytes.
REPORT = struct.Struct("<?iQQQ")


def main(arguments: list[str]) -> int:
    """Runs the command; what this returns is of no interest."""
    report, limits, *words = arguments
    descriptor = int(report)
    # Nobody but this process tells by it.
    os.set_inheritable(descriptor, False)
    command = [os.fsencode(word) for word in words]
    pid = os.fork()
    if not pid:
        _become(command, limits, descriptor)
    while True:
        try:
            ended, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return 1
        if ended == pid:
            times = int(usage.ru_utime * 1e6), int(usage.ru_stime * 1e6)
            # Its child may have told why it did not become the command: this is not read then.
            os.write(descriptor, REPORT.pack(True, status, *times, usage.ru_maxrss * 1024))
            return 0


def _become(command: list[bytes], limits: str, descriptor: int) -> None:
    """In the child: never returns."""
    try:
        # bwrap and this process ignore what is for the command, see `sandbox.py`.
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        for limit in filter(None, limits.split(",")):
            name, soft, hard = limit.split(":")
            kind = getattr(resource, f"RLIMIT_{name.upper()}")
            resource.setrlimit(kind, (int(soft), int(hard)))
        os.execvpe(command[0], command, _environment())
    except (OSError, ValueError, MemoryError) as error:
        why = getattr(error, "errno", None) or errno.EINVAL
        os.write(descriptor, REPORT.pack(False, why, 0, 0, 0))
    finally:
        os._exit(127)


def _environment() -> dict[bytes, bytes]:
    """As it came: Python itself adds LC_CTYPE where there is no locale."""
    with open("/proc/self/environ", "rb") as file:
        pairs = [each.partition(b"=") for each in file.read().split(b"\0") if each]
    return {name: value for name, _, value in pairs}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

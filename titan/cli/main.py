"""The entry point: runs a command and turns whatever ends it into an exit code.

It imports next to nothing itself, so that a Ctrl-C while click is being loaded ends as
quietly as any other.
"""

from __future__ import annotations

import io
import os
import sys

FAILED = 1
INTERRUPTED = 130
# As for a program that SIGPIPE ended.
PIPE_CLOSED = 141
_PARENT_VARIABLE = "_TITAN_PARENT"
_COMPLETE_VARIABLE = "_TITAN_COMPLETE"


def main(arguments: list[str] | None = None) -> int:
    """Runs `titan` with these arguments and returns the exit code.

    With None it is the process: it takes the process's arguments and does not return.
    """
    if arguments is not None:
        return _exit_code(arguments)
    _open_closed_streams()
    code = _exit_code(sys.argv[1:])
    # Python's own end would take gRPC apart object by object, a fifth of a short command's time.
    # Nothing is left to be done: servers have closed what they hold, and output is flushed.
    os._exit(code)


def _exit_code(arguments: list[str]) -> int:
    try:
        if _PARENT_VARIABLE in os.environ:
            import signal  # noqa: PLC0415 - only under `titan dev`

            from titan.parent import die_with_parent  # noqa: PLC0415 - loads ctypes

            die_with_parent(int(os.environ.pop(_PARENT_VARIABLE)), signal.SIGTERM)
        code = _run(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except RuntimeError as error:
        # Up to Python 3.11 what strikes while a class gets its attributes comes wrapped.
        if isinstance(error.__cause__, KeyboardInterrupt):
            return INTERRUPTED
        raise
    except BrokenPipeError:
        # What is still buffered has nowhere to go either; Python would complain at its exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
        return PIPE_CLOSED
    except OSError as error:
        # Of the machine, not of Titan: a full disk behind stdout, a file without permission.
        from titan.escapes import printable  # noqa: PLC0415 - see above

        print(f"titan: {printable(str(error))}", file=sys.stderr)
        return FAILED
    return code


def _open_closed_streams() -> None:
    """Without stdout or stderr (`>&-`) Python has none, and the next file takes their number."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            setattr(sys, name, os.fdopen(number, "w"))


def _run(arguments: list[str]) -> int:
    import click  # noqa: PLC0415 - see above

    from titan.cli.group import cli  # noqa: PLC0415
    from titan.errors import reason_of  # noqa: PLC0415
    from titan.escapes import printable  # noqa: PLC0415

    # A terminal that can't show a character shows its code instead of a traceback.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if _COMPLETE_VARIABLE in os.environ:
        cli.main(arguments, prog_name="titan", complete_var=_COMPLETE_VARIABLE)
    try:
        with cli.make_context("titan", arguments) as context:
            result = cli.invoke(context)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        # It may repeat words of a file that somebody else wrote.
        shown = io.StringIO()
        error.show(shown)
        for line in shown.getvalue().splitlines():
            print(printable(line), file=sys.stderr)
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    except UnicodeEncodeError as error:
        # Bytes of the command line that were to become a name.
        print(f"titan: {printable(reason_of(error))}", file=sys.stderr)
        return click.UsageError.exit_code

"""What holds for every test: the same inputs at each run, and nothing left behind at the end."""

import gc
import os
import signal
import tempfile
import uuid
from collections.abc import Iterator

import psutil
import pytest
from hypothesis import settings

from tests import leftovers, strays

# Whoever starts the tests in the background of a script leaves SIGINT ignored, and what a test
# starts would inherit that: a Ctrl-C that it sends would not be heard.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# "ci" is loaded always, so that a run here and a run there try the same inputs. To look for new
# ones: make test ARGS="--hypothesis-profile=explore"; what it finds becomes an @example.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", deadline=None, print_blob=True, max_examples=2_000)
settings.load_profile("ci")


# Those that take longest begin first: a process that gets one at last lets all others wait for it.
LONGEST = (
    "tests/crash/test_manager_killed.py",
    "tests/fuzz/test_fuzz.py",
    "tests/e2e/test_pull.py",
    "tests/history/test_projector.py",
    "tests/simulation/test_mutations.py",
    "tests/simulation/test_simulation.py",
    "tests/history/test_command.py",
    "tests/scheduler/test_dumb.py",
    "tests/manager/kernel/test_histories.py",
    "tests/manager/test_every_call.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, in that order; the others stay as they are."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


def pytest_collection_finish() -> None:
    """Have the collector leave thousands of tests and their modules alone, which all stay."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def what_stays_is_not_looked_through_again() -> None:
    """The same of what the files before have left: a test that makes much pays for its own."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the run when a process, a control group, a listening socket or a file outlives it."""
    run_id = str(uuid.uuid4())
    base = tmp_path_factory.getbasetemp()
    scratch = tmp_path_factory.mktemp("tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(leftovers.RUN_MARKER, run_id)
        # Temporary files of the code under test and of its children go where they can be found.
        patch.setenv("TMPDIR", str(scratch))
        patch.setattr(tempfile, "tempdir", None)
        # A process more beside every manager: those tests have one that are about it.
        patch.setenv("TITAN_MANAGER_HISTORY", "none")
        patch.setenv("TITAN_DEV_WEB", "none")
        yield
        processes = leftovers.wait_until_none(lambda: leftovers.find_processes(run_id, [base]))
    found = [leftovers.describe_process(process) for process in processes]
    end_processes(processes)
    found += [f"control group {path}" for path in strays.find_groups(base)]
    strays.remove_groups(base)
    # What a server or a process of the last test had is given back by threads of their own.
    found += leftovers.wait_until_none(leftovers.find_listeners)
    found += leftovers.wait_until_none(lambda: leftovers.find_files(scratch))
    if found:
        pytest.fail("the run left behind:\n" + "\n".join(found), pytrace=False)


def end_processes(processes: list[psutil.Process]) -> None:
    """End what was reported, so that one leak does not disturb the runs after it."""
    for process in processes:
        try:
            process.kill()
            if process.ppid() == os.getpid():
                process.wait()
        except psutil.NoSuchProcess:
            continue

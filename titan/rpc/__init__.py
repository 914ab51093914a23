"""The wire: generated stubs in `v1/`, channels, access tokens, errors and statuses.

Importing it settles two things that gRPC reads from the environment when it is
imported itself: no fork handlers (no process that has gRPC forks without exec, and
they cost a lock at every spawn), and no log lines of its own on users' terminals.
"""

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

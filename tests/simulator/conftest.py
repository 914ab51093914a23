"""`make traces` alone runs what needs workloads that are no part of the project."""

import os

collect_ignore = [] if os.environ.get("TITAN_TRACES") else ["test_traces.py"]

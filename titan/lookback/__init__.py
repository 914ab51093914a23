"""Questions about the past, answered from the log and its snapshots.

A reader of the log like any other: it takes no lock and writes nothing. `past.py` makes the
states of moments, `forgotten.py` finds jobs that the manager remembers no more, `story.py`
the events of a job; `answers.py` puts them behind the questions of ManagerService. The
manager starts it as a process (`server.py`); the CLI uses it in its own for a directory on
which no manager runs.
"""

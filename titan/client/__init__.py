"""The public Python client. Read `sync.py` first: what users call, and `control.py`, its part
that steers jobs and asks what decides on them.

Pure and shared by both clients: `arrays.py`, `names.py` and `moments.py` (what users write),
`jobspec.py`, `submission.py` and `requests.py` (Python to messages), `views.py`, `enums.py` and
`output.py` (messages to what users see), `scheduling.py`, `constraints.py` and `dependencies.py`
(when and where a job may run, and the jobs that it names), `flow.py` (many jobs in a file),
`retry.py` and `cursors.py` (what to ask again, and from where).
The waiting itself is twice there: `session.py` with `sync.py` and `control.py` for threads,
`aio_session.py` with `aio.py` and `aio_control.py` for asyncio. `connection.py` is what both open.
"""

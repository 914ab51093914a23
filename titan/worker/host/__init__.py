"""The task host: a small process of one thread, parent of every task, without gRPC.

    python -m titan.worker.host DIRECTORY

`bookkeeping.py` decides, purely: who runs, who waits, what is reported; `actions.py` is what it
asks for. `host.py` does it, with the processes (`children.py`, `spawn.py`), their limits
(`confinement.py`), their output (`output_watch.py`) and what must not be forgotten (`journal.py`).
"""

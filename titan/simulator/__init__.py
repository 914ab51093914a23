"""A workload in virtual time through the real kernel and its scheduler.

`swf.py` reads the jobs, `simulation.py` drives the kernel from instant to instant with the
workers of `worker.py`, `statistics.py` and `series.py` say what came of it. All of these are
pure; `plot.py` and `titan/traces/file.py` do the I/O.
"""

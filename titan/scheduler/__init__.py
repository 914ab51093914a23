"""Who goes next, and where: pure functions of the state.

Begin with `passes.py`, one pass over the queue, and `policies.py`, what the policies mean.
`class_queue.py` orders what waits, `search.py` finds places, `backfill.py` and `preemption.py`
say for whom others wait or give way, `scheduler.py` is what is kept from pass to pass.
`explain.py` says why a task waits.
"""

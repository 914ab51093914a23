"""Who goes next, and where: pure functions of the state.

`queue.py` orders what waits and proposes placements, `policies.py` chooses among
workers, `explain.py` says why a task waits.
"""

"""Who goes next, and where: pure functions of the state.

`passes.py` goes through the queue and proposes placements, `policies.py` chooses among workers,
`explain.py` says why a task waits and `candidates.py` why one was placed where it is.
"""

"""What `titan wal` and the developers' tools do with a manager's log, apart from a manager.

Begin with `places.py`, what lies where; then a module for each command. Only `repair.py`,
and `backup.py` in directories of its own, write; all others read, also beside a manager
that runs. What does not depend on what records mean is in the package `wal`.
"""

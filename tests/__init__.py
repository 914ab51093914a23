"""The tests mirror the tree.

Each folder has an ``__init__.py``: without them ``tests/wal`` would shadow the real ``wal``.
"""

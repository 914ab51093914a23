"""The manager: a pure kernel, and the shell that gives it a log, a clock and a network.

Read `kernel/` first, then `shell.py`.
"""

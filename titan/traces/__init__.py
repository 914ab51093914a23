"""Workloads that others recorded: what `titan simulate` and `titan history import` read alike.

`lines.py` reads numbers and keeps count of what is odd, and is pure; `file.py` opens a file.
"""

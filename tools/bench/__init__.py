"""Benchmarks of what Titan promises to be fast at. Read README.md first.

A measure is never given alone: beside it stands its floor, the least that any program could
need for the same thing on the same machine, taken in the same run and by turns with it.
"""

"""What tasks have written, on the worker's disk: where it is, reading it, and letting it go.

`paths.py` and `hole.py` are shared with the task host, which keeps the files below their cap.
"""

"""`titan top`: the cluster live on a terminal.

`command.py` is the command, `feed.py` asks the manager, `model.py` and `output_lines.py` make lines
of the answers and are pure, `app.py` and its widgets put them on the screen. Those need textual,
the extra `top`, and are imported only once the command runs.
"""

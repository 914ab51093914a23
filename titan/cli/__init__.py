"""`titan …`: a file for each group of commands, which only parse, call and render.

Read `group.py` (which commands there are), `command.py` (what they have in common),
then the command. What takes time to import is imported inside the commands: `titan
--help` loads click and nothing else. Nothing imports this package.
"""

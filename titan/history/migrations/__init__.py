"""How the tables came to be what they are: Alembic's scripts, run by `database.migrate`.

A script that was released never changes: what has to be another way gets another script.
"""

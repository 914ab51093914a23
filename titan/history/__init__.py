"""Every job that ever ran, in SQL: a reader of the log that writes what it reads into a database.

Read `schema.py` for what the tables say, `projection.py` for how events become rows, `store.py` for
how rows get into a database and are there once, `projector.py` for the process, `questions.py` for
what is asked of the tables, `imports.py` for jobs that others ran. All but this module may
need the extra `history`.
"""

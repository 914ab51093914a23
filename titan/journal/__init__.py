"""The journal in PostgreSQL: where the log of several managers is durable.

One manager leads, which a lease in the database says, and it alone appends; the others read along.
Start with `schema.py` (what stands where) and `appender.py` (how a row gets there, and what keeps
another term's out). Only this package speaks to that database, and only it needs psycopg.
"""

"""The history in SQL: the same tests on SQLite and on a real PostgreSQL."""

"""A manager that shares its log with others: it stands by, leads for a term, and stands by anew.

Begin with `manager.py`, which is that life. The log itself, as rows of a database, is
`titan.journal`; what a manager does while it leads is `titan.manager.term`, as of one alone.
"""

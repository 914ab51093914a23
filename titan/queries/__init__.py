"""What users may ask of a state, and how it looks to them: the same for now and for the past.

Begin with `reads.py`, a function for each question. `selection.py` says which jobs are
meant, `worker_selection.py` which worker; they are pure, since commands need them too.
`requests.py` reads that out of messages, `views.py` makes messages of the state, `plain.py` plain
values of events. `stories.py` says where in the log a job's events lie, `mentions.py` which
records and events those are.
"""

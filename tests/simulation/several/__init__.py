"""Clusters with several managers over one journal, under faults of both and between them.

Real, beside what is real with one manager: the journal's rows, each manager's copy of it, and the
deadline of a lease. Invented: the database (`server.py`), and the thin shells: a manager that
follows (`replica.py`), one that leads (`leader.py`), lists of addresses (`addresses.py`).

The fault model
---------------

The journal is a PostgreSQL server with a synchronous standby. Statements may come late, by
seconds, long after who sent them has died; they or their answers may be lost, and a manager may be
cut off in both directions or in one. The server is restarted: connections break, what was begun is
there or is not, and what is there is seen at once, though the standby may lack it. It fails over
to the standby, which has all that was answered, and some of what was not. The standby lags, so that
nothing is answered; or those that wait for it are cancelled, and told with a warning that it is
done, which a failover then takes back. It is full, or slow.

Managers are killed, stand still or are suspended past their lease and go on, lose their power or
their copy of the journal, and are cut off from all workers and users; their disks fill up and fail.
All other faults of a cluster happen as well. Whoever steps down goes on for up to 0.1 s with what
waits already, so that each rule has to hold by itself.

Assumed: the clocks of the journal's servers and of managers run within 1 % of each other, and two
servers of a journal are within 0.2 s: the margin of a lease has to be more than both. A manager
whose copy is not in the journal any more, as it followed a row that a failover took back, has it
begun anew by its administrator.

What is checked
---------------

All that is with one manager, against the one log (`witness.py`); whoever leads is held to it as the
one manager is, from what it found when it took over. And: when a term begins nobody, asleep or not,
counts on the lease of one before it, and no row of one comes later; whatever leaves a manager does
so while no other has the lease; a row that the standby has is never lost; standbys have
the leader's state at each record. In the end every copy has the whole journal.
"""

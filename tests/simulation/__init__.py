"""A whole cluster in one process under a virtual clock, with faults.

Real: the kernel, its outboxes, the turn clock, replay, the log, snapshots; the agent's core,
the task host's bookkeeping and timers; the messages of the wire and of the socket. Invented:
time, the network, disks, processes, and the thin shells around the pure parts, which keep the
rules of the real ones (`manager.py` names them).

The fault model
---------------

Network. Messages between two machines are calls: a request and an answer. Each of the two may
be late, by milliseconds or by seconds, and so overtake others; each may be lost, when the caller
hears nothing until its deadline; a request may come twice, at any two times, the second time to
nobody's answer. A call to a process that is not there fails, at once or, swallowed, at its
deadline. What was sent to a process that has died is lost: a connection does not outlive it. A
network may be cut between the manager and a worker, all workers, or its users, in both directions
or in one: then requests arrive and answers do not, or the reverse.

The manager's disk drops what was not synced when power fails, or keeps all or some of it, or
tears the last write (`tests/wal/fake_fs.py`). It may be full and have room again, be slow for
seconds, and fail any call once with EIO or ENOSPC, syncs among them.

The manager may be killed (what it wrote stays in the page cache), lose power, or die so within
any call of its file system, those of its snapshotter and of the removal of old records included.
It may stand still, as under SIGSTOP, while its clocks go on; or its machine may be suspended,
when its monotonic clock stands still, too. It wakes to all that came meanwhile.

Workers. An agent may be killed, and its socket gives the host what it sent before. A task host
may be killed between any two of its actions; its tasks run on without it. Both may be killed
and stay away for longer than the manager waits. Each may stand still for as long. A host's
journal survives that. A machine may be suspended with all that runs there, or rebooted: its
processes are gone, its journal ends anywhere or is gone. An agent may be told to hand all back,
at once or when what it has has run out. Its disk may be nearly full, when it takes no new tasks.

Wall clocks, the manager's and the workers', differ by up to six hours and are set forth and back
by as much at any time.

Tasks fail, cannot be spawned, ignore SIGTERM, run for 5 ms or for minutes.

Users send a request again, under the same id, until they are answered, and at times once more
after that. Jobs wait for others, for a time, or to be released; they are tried again, want a
label, to be alone, few at once, an end by some time, and make room for others (`wishes.py`).
Administrators drain workers and lift that again; they hold, suspend, requeue and update jobs,
and when all is calm let all of them go on.

Assumed never to happen: disks that rot, a sync that lies, a journal of a host that cannot be
written, two machines under one worker's directory, monotonic clocks that step, messages that are
changed on their way. Not modelled: other users of a machine, output, memory limits. The manager
has no files but its log and snapshots. Several managers over one journal, and what may happen to
that, are in `several`.

What is checked
---------------

After each event: a witness that sees all from outside (`checks.py`, `promises.py`) examines each
record when it is appended, each process when it is started or ends, each answer when it is
received and each pass when it is over, against the invariants of `titan/README.md` by their
numbers; a state of its own, replayed from the records, has to equal the manager's. What a record
names is compared and examined at once, the whole of both states every sixteen records, at the end
of each manager and of the run, and after each start against what was replayed.

Faults begin until `Plan.faults_end_ms`. Once the last is over, nothing is lost, doubled or late
any more, and then all must end: within the time that all its tasks take one after the other and
two minutes (`cluster.CALM_US_MAX`) every job has ended, every process is gone, every report is
acknowledged and every outbox empty. Attempts that count no more are stopped within 25 s of it.

Every choice comes from a plan and its seed (`plan.py`): one seed is one run, to the byte. Most
plans are small, as most mistakes show in small ones; some are large. `make simulate SEED=…` shows
one with all that happens in it, `make simulate MINUTES=…` runs as many as fit. Read `cluster.py`
next; that the checks find mistakes is shown by `test_mutations.py`, that the faults happen by the
kinds that `test_simulation.py` counts.
"""

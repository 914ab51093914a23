"""A whole cluster in one process under a virtual clock, with faults.

Real: the kernel, its outboxes, the turn clock, replay, the log; the agent's core, the
task host's bookkeeping; the messages of the wire and of the socket. Invented: time, the
network, disks, processes, and the thin shells around the pure parts, which keep the
rules of the real ones (`manager.py` names them).

The fault model
---------------

* Messages between processes on two machines are calls: a request and a response. Each
  of the two may be late, by milliseconds or by seconds, and so overtake others; each may be
  lost, when the caller hears nothing until its deadline; a request may come twice, the
  second time to nobody's answer. A call to a process that is not there fails, at once or
  at its deadline. What was sent to a process that has died is lost: a connection does not
  outlive it. A network may be cut between the manager and a worker, in one direction or in both.
* The manager may be killed (what it wrote stays in the page cache), lose power (unsynced
  writes are lost, kept, torn, or some of each), or die so within any call of its file
  system, those of its snapshotter and of the removal of old records included; it may stand
  still for seconds, find its disk full, or have a sync fail. Its wall clock may be set when
  it starts.
* An agent may be killed, and its socket gives the host what it sent before. A task host
  may be killed between any two of its actions; its tasks run on without it. Both may be
  killed and stay away for longer than the manager waits. A host's journal survives that. A
  machine may be rebooted: its processes are gone, its journal ends anywhere or is gone. An
  agent may be told to hand all back, at once or when what it has has run out. Wall clocks of
  workers are wrong and may be set. Its disk may be nearly full, when it takes no new tasks.
* Tasks fail, cannot be spawned, ignore SIGTERM, run for 5 ms or for a minute.
* Administrators drain workers and lift that again; they hold, suspend, requeue and update jobs,
  and when all is calm let all of them go on.
* Jobs wait for others, for a time, or to be released; they are tried again, want a label, to be
  alone, few at once, an end by some time, and make room for others (`wishes.py`).
* Clients send a request again, under the same id, until they are answered, and at times
  once more after that.

Not modelled: disks that rot, fsync that lies, clones of a worker, other users of a
machine, pull mode. The manager has no files but its log and snapshots.

Every choice comes from a plan and its seed (`plan.py`): one seed is one run, to the
byte. Read `cluster.py` next; what must hold is in `checks.py` and `promises.py`.
"""

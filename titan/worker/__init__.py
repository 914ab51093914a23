"""The worker: an agent that speaks gRPC and a task host that runs the tasks.

Two processes on each machine. The host is the parent of every task, keeps their queue
and their ends, and outlives the agent; the agent keeps the manager informed and may be
restarted or upgraded while tasks run. Read `messages.py` (what they speak about) and
`protocol.py` (how), then `host/` and `agent/`; `output/` is what tasks have written.
`main.py` starts it all.
"""

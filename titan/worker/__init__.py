"""The worker: an agent that speaks gRPC and a task host that runs the tasks.

Two processes on each machine. The host is the parent of every task, keeps their queue
and their ends, and outlives the agent; the agent keeps the manager informed and may be
restarted or upgraded while tasks run. Read `messages.py` (what they speak about), then
`bookkeeping.py` (what the host decides) and `core.py` (what the agent decides), then
their shells `host.py` and `agent.py`. `main.py` starts it all.
"""

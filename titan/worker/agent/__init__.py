"""The agent: the worker's side of the wire, in asyncio. It may end and start while tasks run on.

`core.py` decides, purely: registration, which calls of the manager count, what is reported;
`actions.py` is what it asks for. `agent.py` does it, through `manager_link.py` and
`host_process.py`; `task_service.py` is what the manager, or the worker's user, calls.
"""

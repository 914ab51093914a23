"""The fuzzer over the wire, for a bounded time."""

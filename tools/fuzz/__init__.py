"""A fuzzer over the wire, for a real manager and worker. See README.md."""

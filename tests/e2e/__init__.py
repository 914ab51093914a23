"""Whole clusters from the outside: manager, workers, task hosts, commands, each a process."""

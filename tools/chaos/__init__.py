"""Chaos on a real cluster: faults drawn from a seed, and a judge that takes nobody's word."""

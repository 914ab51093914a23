"""Traces: the spans of jobs, read from the log and exported to an OpenTelemetry collector.

`spans.py` makes them of the events, `exporter.py` gives them to the collector, `process.py` is the
process that does both. What it needs is the extra [otel]; nothing else of Titan imports it.
"""

"""Has traces exported, by a process of its own that reads the log.

They are where OpenTelemetry's own variables name a collector, and the extra [otel] is installed.
Which jobs are traced is decided here and in that process by one rule (`trace_context.py`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import wal
from titan.following import TRACES_SLOT
from titan.logs import LogLine
from titan.manager.reader_process import keep_running, start_process, wait_end
from titan.manager.recovery import StartRefused
from titan.trace_context import Sampler, sampler_of

_log = logging.getLogger("titan.traces")

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_MODULES: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.grpc")


def find_sampler(data_directory: Path, environ: Mapping[str, str]) -> Sampler | None:
    """Which jobs are traced; None: none, and then no log is kept for it either.

    Raises StartRefused where the variables say what is not there.
    """
    endpoint = _first(environ, _ENDPOINTS)
    is_off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    is_other = environ.get("OTEL_TRACES_EXPORTER", "otlp") not in ("", "otlp")
    missing = [name for name in _MODULES if not _is_there(name)] if endpoint else []
    if not endpoint or is_off or is_other or missing:
        if missing:
            _log.warning("no traces are exported: pip install 'titan-scheduler[otel]'")
        # The log is not kept for somebody who does not come.
        wal.remove_slot(data_directory / "readers", TRACES_SLOT)
        return None
    protocol = _first(environ, _PROTOCOLS) or "grpc"
    if protocol != "grpc":
        raise StartRefused(f"traces are exported by OTLP over grpc, not over {protocol}")
    try:
        sampler = sampler_of(environ)
    except ValueError as error:
        raise StartRefused(str(error)) from error
    # A password may stand before it.
    _log.info(LogLine("traces are exported", endpoint=endpoint.rpartition("@")[2]))
    return sampler


class TraceExporter:
    """The process that exports the traces of one data directory."""

    def __init__(
        self, data_directory: Path, since_us: int, *, log_level: str, log_format: str
    ) -> None:
        """One that finds no place of its own does not tell what was over at `since_us`."""
        self._arguments = (data_directory, log_level, log_format, since_us)

    async def run(self) -> None:
        """Keeps it running until it is cancelled; it has ended then."""
        await keep_running("the process that exports traces", self._run_process)

    async def _run_process(self) -> int:
        process = await start_process("titan.tracing.process", *self._arguments, os.getpid())
        return await wait_end(process)


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((environ[name] for name in names if environ.get(name)), "")


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        # One above it is not there.
        return False

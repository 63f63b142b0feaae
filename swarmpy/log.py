"""Structured logs of every process but the standard-library ones: one line an event, to standard error.

JSON where standard error is not a terminal, so that a journal can be searched; readable where it is one.
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure(process: str, *, level: str = "info", json: bool | None = None) -> None:
    """Set up structlog for this process.

    Args:
        process: the process's name, in every line ("manager", "worker", "dataplane").
        level: the lowest level written ("debug", "info", "warning", "error").
        json: write JSON; None decides by whether standard error is a terminal.
    """
    as_json = not sys.stderr.isatty() if json is None else json
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)

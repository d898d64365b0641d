"""Logs go to standard error, and never stop the work: a closed pipe or a full disk loses lines, no loop.

Nothing that was logged steers a terminal or shows what is secret in an address; a traceback says where, and
has no values of variables in it.
"""

from __future__ import annotations

import contextlib
import json as json_module
import os
import sys
import textwrap
import traceback
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import ExcInfo, Processor

from phoenix_orch.kernel.masking import masked_assignments, masked_text, told
from phoenix_orch.kernel.text import plain_lines


class _Stream:
    """Standard error as it is at the time of writing; what cannot be written is left out."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


def configure_logs(*, json: bool = False) -> None:
    """For a process that runs Phoenix; once, before anything is logged. `json`: one object a line."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.dev.set_exc_info,
            *(_as_objects() if json else _as_text()),
        ],
        logger_factory=structlog.PrintLoggerFactory(_Stream()),  # type: ignore[arg-type]
    )


def _as_text() -> list[Processor]:
    return [
        structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
        _harmless,
        structlog.dev.ConsoleRenderer(colors=_has_colours(), exception_formatter=_traceback),
    ]


def _as_objects() -> list[Processor]:
    """What happened comes first, so that a line can be read by people, too."""
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _told_exception,
        _harmless,
        structlog.processors.JSONRenderer(serializer=_in_order, ensure_ascii=False),
    ]


def _in_order(event: MutableMapping[str, Any], **options: Any) -> str:
    first = {key: event[key] for key in ("time", "level", "event") if key in event}
    return json_module.dumps({**first, **event}, **options)


def _told_exception(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    found = event.pop("exc_info", None)
    exc_info = (type(found), found, found.__traceback__) if isinstance(found, BaseException) else found
    if isinstance(exc_info, tuple) and exc_info[0] is not None:
        event["exception"] = _lines(exc_info)
    return event


def _has_colours() -> bool:
    return not os.environ.get("NO_COLOR") and sys.stderr is not None and sys.stderr.isatty()


def _harmless(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Make every value fit to be shown; the traceback is made by `_traceback`."""
    for key in event:
        if key != "exc_info":
            event[key] = _shown(event[key])
    return event


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return told(value)
    if isinstance(value, dict):
        return {_shown(key): _shown(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown(part) for part in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return told(str(value))


def _traceback(out: TextIO, exc_info: ExcInfo) -> None:
    """Where it happened, call by call; indented, because messages of exceptions may hold anything."""
    out.write("\n" + textwrap.indent(_lines(exc_info), "    "))


def _lines(exc_info: ExcInfo) -> str:
    lines = "".join(traceback.format_exception(*exc_info)).rstrip()
    return masked_assignments(masked_text(plain_lines(lines)))

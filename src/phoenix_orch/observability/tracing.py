"""Spans, for whoever collects traces. Where nobody does, the caller's trace id is taken over and passed on.

A trace is `current()` wherever its work is done: log lines have its id, metrics show it as an exemplar, and
`headers()` takes it to the next program. The SDK is imported by `tracing_exporter` alone, and only where
traces are collected.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Protocol

import structlog

from phoenix_orch.observability.traceparent import HEADER, TraceParent, parse

Value = str | int | float | bool

_current: ContextVar[TraceParent | None] = ContextVar("trace", default=None)


class Span(Protocol):
    """One piece of work, from its beginning to its end."""

    def set(self, name: str, value: Value) -> None:
        """Add what is known only later."""
        ...

    def fail(self, kind: str) -> None:
        """It did not succeed; `kind` is a word, such as the name of an error, and never its text."""
        ...

    def name(self, name: str) -> None:
        """Call it by a better name."""
        ...


class Exporter(Protocol):
    """What makes spans that somebody collects."""

    def span(
        self,
        name: str,
        *,
        serves: bool,
        parent: TraceParent | None,
        started: int | None,
        attributes: Mapping[str, Value],
    ) -> contextlib.AbstractContextManager[tuple[Span, TraceParent]]:
        """A span that lasts as long as the context, and where it is now."""
        ...


class NoSpan:
    """Nobody collects it."""

    def set(self, name: str, value: Value) -> None: ...

    def fail(self, kind: str) -> None: ...

    def name(self, name: str) -> None: ...


_NO_SPAN = NoSpan()
_exporter: Exporter | None = None


def export_to(exporter: Exporter | None) -> None:
    """From now on; None: nobody collects traces."""
    global _exporter  # noqa: PLW0603 - one for the process, like its log
    _exporter = exporter


def current() -> TraceParent | None:
    """The trace that this work is a part of."""
    return _current.get()


def exemplar() -> dict[str, str] | None:
    """What leads from a number to its trace; None where the trace is not kept."""
    found = _current.get()
    return {"trace_id": found.trace_id} if found is not None and found.sampled else None


def headers() -> dict[str, str]:
    """What takes the trace to the program that is called next."""
    found = _current.get()
    if found is None:
        return {}
    return {HEADER: f"00-{found.trace_id}-{found.span_id}-{'01' if found.sampled else '00'}"}


@contextlib.contextmanager
def span(
    name: str, *, serves: bool = False, caller: str = "", started: int | None = None, **attributes: Value
) -> Iterator[Span]:
    """One piece of work. An error that ends it is told in the span, by its kind, and raised.

    `serves`: somebody else asked for it. `caller`: their header `traceparent`, which may be any text.
    `started`: nanoseconds since 1970 where it began before. `attributes`: names with `_` for `.`; values are
    seen by whoever reads traces, so nothing secret.
    """
    parent = parse(caller) or _current.get()
    if _exporter is None:
        if parent is None:
            yield _NO_SPAN
            return
        with _within(parent):
            yield _NO_SPAN
        return
    told = {key.replace("_", "."): value for key, value in attributes.items()}
    making = _exporter.span(name, serves=serves, parent=parent, started=started, attributes=told)
    with making as (made, here), _within(here):
        yield made


@contextlib.contextmanager
def _within(trace: TraceParent) -> Iterator[None]:
    token = _current.set(trace)
    try:
        with structlog.contextvars.bound_contextvars(trace_id=trace.trace_id):
            yield
    finally:
        _current.reset(token)

"""Traces over OTLP: the OpenTelemetry SDK, where the environment names somebody who collects them.

The usual variables count: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME,
OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_*. A collector that is away delays nothing: spans wait
in a queue of bounded length, and those that find it full are lost.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog

from phoenix_orch.observability import tracing
from phoenix_orch.observability.traceparent import TraceParent
from phoenix_orch.observability.tracing import Span, Value

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PATIENCE = 5.0
"""Seconds for one export, also the last one at the end of the process."""

_log = structlog.get_logger("phoenix.traces")


def wanted(environment: Mapping[str, str]) -> bool:
    """Somebody collects traces. Pure."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    return environment.get("OTEL_TRACES_EXPORTER") != "none" and any(map(environment.get, ENDPOINTS))


@contextlib.contextmanager
def exported(service: str, environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Spans that end meanwhile are sent to the collector that the environment names, if it names one.

    `service`: what the process is called in traces, unless OTEL_SERVICE_NAME says something else.
    """
    if not wanted(environment):
        yield
        return
    provider = _provider(service, environment)
    tracing.export_to(SdkExporter(provider))
    try:
        yield
    finally:
        tracing.export_to(None)
        last = threading.Thread(target=provider.shutdown, name="last traces", daemon=True)
        last.start()
        last.join(PATIENCE)  # a collector that hangs would keep the process for half a minute


def _provider(service: str, environment: Mapping[str, str]) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - see the module's text
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    about: dict[str, Any] = {"service.version": version("phoenix-orchestrator")}
    if not environment.get("OTEL_SERVICE_NAME"):
        about["service.name"] = service
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(timeout=PATIENCE)
    provider.add_span_processor(BatchSpanProcessor(exporter, export_timeout_millis=PATIENCE * 1000))
    _tell_in_our_log()
    return provider


class SdkExporter:
    """`tracing.Exporter` on a TracerProvider."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import trace  # noqa: PLC0415

        self._trace = trace
        self._tracer = provider.get_tracer("phoenix_orch", version("phoenix-orchestrator"))

    @contextlib.contextmanager
    def span(
        self,
        name: str,
        *,
        serves: bool,
        parent: TraceParent | None,
        started: int | None,
        attributes: Mapping[str, Value],
    ) -> Iterator[tuple[Span, TraceParent]]:
        kinds = self._trace.SpanKind
        made = self._tracer.start_span(
            name,
            context=self._context(parent),
            kind=kinds.SERVER if serves else kinds.INTERNAL,
            attributes=attributes,
            start_time=started,
        )
        told, about = _SdkSpan(made, self._trace), made.get_span_context()
        here = TraceParent(f"{about.trace_id:032x}", f"{about.span_id:016x}", about.trace_flags.sampled)
        try:
            yield told, here
        except BaseException as error:
            told.fail(type(error).__name__)  # its text may hold what nobody else may see
            raise
        finally:
            made.end()

    def _context(self, parent: TraceParent | None) -> Any:
        """The parent is always ours or the caller's: what a library holds for current is not asked."""
        if parent is None:
            return self._trace.set_span_in_context(self._trace.INVALID_SPAN)
        about = self._trace.SpanContext(
            int(parent.trace_id, 16),
            int(parent.span_id, 16),
            is_remote=True,
            trace_flags=self._trace.TraceFlags(int(parent.sampled)),
        )
        return self._trace.set_span_in_context(self._trace.NonRecordingSpan(about))


class _SdkSpan:
    def __init__(self, made: trace.Span, api: Any) -> None:
        self._made = made
        self._failed = api.Status(api.StatusCode.ERROR)

    def set(self, name: str, value: Value) -> None:
        self._made.set_attribute(name, value)

    def fail(self, kind: str) -> None:
        self._made.set_attribute("error.type", kind)
        self._made.set_status(self._failed)

    def name(self, name: str) -> None:
        self._made.update_name(name)


class _Told(logging.Handler):
    """What the SDK complains of, in Phoenix's own log: each once until it complains of something else."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._last = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg != self._last:
            self._last = str(record.msg)
            _log.warning("traces cannot be sent", reason=record.getMessage())


def _tell_in_our_log() -> None:
    logger = logging.getLogger("opentelemetry")
    logger.propagate = False
    if not any(isinstance(one, _Told) for one in logger.handlers):
        logger.addHandler(_Told())

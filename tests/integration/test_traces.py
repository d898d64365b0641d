"""Traces as a collector gets them, and what they cost where nobody collects them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest
import structlog
from structlog.testing import capture_logs
from tests.integration.fake_phoenix import FakeOperations
from tests.integration.known import admin
from tests.integration.otlp_receiver import Receiver, receiving

from phoenix_orch.api.server import create_app
from phoenix_orch.observability import tracing
from phoenix_orch.observability.tracing_exporter import ENDPOINTS, PATIENCE, exported, wanted
from phoenix_orch.rollback_controller.checks import http_failure
from phoenix_orch.rollout.spec import HttpCheck

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        yield found


def api() -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(FakeOperations(), authenticators=(admin,)))
    return httpx.AsyncClient(transport=transport, base_url="http://phoenix/api/v1")


async def test_a_request_goes_on_with_the_trace_of_its_caller(receiver: Receiver) -> None:
    with exported("test"):
        async with api() as http:
            await http.get("/rollouts/web/events?limit=7&token=hidden-word", headers=CALLER)
            await http.get("/rollouts/nobody")
    first, second = receiver.spans
    assert (first.service, first.trace_id, first.parent) == ("test", TRACE, SPAN)
    assert first.name == "GET /api/v1/rollouts/{name}/events"
    assert first.attributes["http.route"] == "/api/v1/rollouts/{name}/events"
    assert first.attributes["http.response.status_code"] == httpx.codes.OK
    assert "hidden-word" not in first.raw
    assert (second.parent, second.attributes["http.response.status_code"]) == ("", httpx.codes.NOT_FOUND)
    assert second.trace_id != TRACE
    assert [first.failed, second.failed] == [False, False]


async def test_work_inside_of_work_is_of_the_same_trace_and_so_are_its_log_lines(receiver: Receiver) -> None:
    def work() -> None:
        with tracing.span("outer", phoenix_rollout="web"):
            structlog.get_logger().info("in it")
            with tracing.span("inner"):
                raise ValueError("a secret is in the text")

    with exported("test"), capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        with pytest.raises(ValueError, match="secret"):
            work()
        structlog.get_logger().info("after it")
    inner, outer = receiver.spans
    assert (inner.trace_id, inner.parent) == (outer.trace_id, outer.span_id)
    assert outer.attributes == {"phoenix.rollout": "web", "error.type": "ValueError"}
    assert inner.failed
    assert outer.failed
    assert "secret" not in inner.raw + outer.raw
    assert [line.get("trace_id") for line in lines] == [outer.trace_id, None]


async def test_a_check_takes_the_trace_to_the_service(receiver: Receiver) -> None:
    seen: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200)

    check = HttpCheck(url="http://shop/")
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        with exported("test"), tracing.span("check"):
            assert await http_failure(client, check, "http://shop/", limit=5) is None
        await http_failure(client, check, "http://shop/", limit=5)
    (span,) = receiver.spans
    assert seen[0]["traceparent"] == f"00-{span.trace_id}-{span.span_id}-01"
    assert "traceparent" not in seen[1]


async def test_without_a_collector_the_trace_of_the_caller_is_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    with exported("test"), tracing.span("request", serves=True, caller=CALLER["traceparent"]):
        assert tracing.headers() == CALLER
    assert tracing.current() is None
    with tracing.span("nobody asked"):
        assert tracing.headers() == {}


def test_a_collector_that_hangs_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr("phoenix_orch.observability.tracing_exporter.PATIENCE", 0.5)
        begun = time.monotonic()
        with exported("test"):
            for _ in range(5000):  # more than the queue holds
                with tracing.span("work"):
                    pass
            assert time.monotonic() - begun < PATIENCE
        assert time.monotonic() - begun < 2 * PATIENCE


def test_the_environment_says_whether_somebody_collects() -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    assert wanted(endpoint)
    assert wanted({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"})
    assert not wanted({})
    assert not wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": ""})
    assert not wanted({**endpoint, "OTEL_SDK_DISABLED": "true"})
    assert not wanted({**endpoint, "OTEL_TRACES_EXPORTER": "none"})


def test_where_nobody_collects_neither_spans_nor_exporter_are_imported() -> None:
    """redis-py imports metrics of the SDK where it finds it; nothing of that is ours."""
    program = """
import sys
import phoenix_orch.orchestrator.up
from phoenix_orch.observability.tracing_exporter import exported

with exported("test", {}):
    heavy = ("opentelemetry.sdk.trace", "opentelemetry.exporter")
    print([name for name in sys.modules if name.startswith(heavy)])
"""
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"

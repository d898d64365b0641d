"""Metrics: the guide's names, both formats, and labels that do not grow without end."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from phoenix_orch.health_validator.sources.exposition import process_page, split
from phoenix_orch.observability import metrics, tracing
from phoenix_orch.observability.listener import serve_metrics
from phoenix_orch.observability.resources import ResourceCollector, operations, own_io_stat
from phoenix_orch.observability.rollouts import (
    MOST_ROLLOUTS,
    RolloutCollector,
    RolloutFacts,
    VerdictFacts,
    chosen,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"


def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def shown(collector: RolloutCollector) -> dict[tuple[str, ...], float]:
    """By name and values of labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


def facts(
    name: str, *, state: str = "Progressing", resting: bool = False, seconds: float = 30
) -> RolloutFacts:
    return RolloutFacts(
        name=name,
        state=state,
        resting=resting,
        release=3,
        step=2,
        steps=6,
        wanted=20,
        seen=5,
        state_seconds=seconds,
        step_seconds=12,
    )


def test_both_formats_can_be_read_and_have_the_names_of_the_guide() -> None:
    metrics.request_answered("GET", "/x/{name}", 200, 0.15)
    metrics.TASKS.labels("test", "succeeded").inc()
    text, content_type = metrics.page()
    assert content_type.startswith("text/plain")
    names = {
        "requests",
        "request_duration_seconds",
        "tasks",
        "cpu_usage_percent",
        "memory_usage_bytes",
        "disk_io_operations",
        "network_traffic_bytes",
    }
    found = families(text.decode())
    assert names <= found.keys()
    assert found["requests"].type == "counter"
    text, content_type = metrics.page("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text")
    assert names <= {family.name for family in openmetrics.text_string_to_metric_families(text.decode())}


def test_what_the_guide_judges_latency_by_are_edges() -> None:
    assert set(metrics.LIMITS) == {0.1, 0.2, 2.0}
    metrics.request_answered("GET", "/edges", 200, 0.15)
    family = families(metrics.page()[0].decode())["request_duration_seconds"]
    edges = {
        float(sample.labels["le"]): sample.value
        for sample in family.samples
        if sample.labels.get("route") == "/edges" and "le" in sample.labels
    }
    assert edges.keys() >= set(metrics.LIMITS)
    assert (edges[0.1], edges[0.2]) == (0, 1)


def test_the_trace_of_a_request_is_beside_its_numbers_where_it_is_kept() -> None:
    with tracing.span("request", caller=CALLER):
        metrics.request_answered("GET", "/kept", 200, 0.01)
    with tracing.span("request", caller=CALLER[:-1] + "0"):
        metrics.request_answered("GET", "/left", 200, 0.01)
    page = metrics.page("application/openmetrics-text")[0].decode()
    exemplars = {
        sample.labels["route"]: sample.exemplar.labels
        for family in openmetrics.text_string_to_metric_families(page)
        for sample in family.samples
        if sample.exemplar is not None and sample.name == "request_duration_seconds_bucket"
    }
    assert exemplars["/kept"] == {"trace_id": TRACE}
    assert "/left" not in exemplars


def test_a_method_that_there_is_not_is_one_of_the_others() -> None:
    for word in ("BREW", "x" * 100):
        metrics.request_answered(word, "/methods", 405, 0.01)
    family = families(metrics.page()[0].decode())["requests"]
    assert {s.labels["method"]: s.value for s in family.samples if s.labels["route"] == "/methods"} == {
        "other": 2
    }


def test_a_rollout_is_shown_until_it_is_gone() -> None:
    collector = RolloutCollector()
    collector.passed(facts("web"))
    collector.judged(VerdictFacts("web", "advance", "evidence", 1e9))
    found = shown(collector)
    assert found["phoenix_rollout_state", "web", "Progressing"] == 1
    assert found["phoenix_rollout_weight_wanted_percent", "web"] == 20
    assert found["phoenix_rollout_weight_seen_percent", "web"] == 5
    assert found["phoenix_rollout_step_seconds", "web"] == 12
    assert found["phoenix_verdict_state", "web", "advance", "evidence"] == 1
    assert found["phoenix_rollouts", "Progressing"] == 1
    collector.passed(facts("web", state="Promoted", resting=True))
    assert ("phoenix_rollout_state", "web", "Progressing") not in shown(collector)
    collector.forget("web")
    collector.forget_verdict("web")
    assert not [key for key in shown(collector) if "web" in key]


def test_of_too_many_those_on_their_way_are_shown_and_all_are_counted() -> None:
    many = [facts(f"at-rest-{n}", state="Idle", resting=True, seconds=n) for n in range(MOST_ROLLOUTS)]
    found = chosen([*many, facts("web", seconds=1e6)])
    assert len(found) == MOST_ROLLOUTS
    assert {"web", "at-rest-0"} <= {one.name for one in found}
    assert f"at-rest-{MOST_ROLLOUTS - 1}" not in {one.name for one in found}
    collector = RolloutCollector()
    for one in [*many, facts("web")]:
        collector.passed(one)
    counted = shown(collector)
    assert (counted["phoenix_rollouts", "Idle"], counted["phoenix_rollouts_left_out",]) == (MOST_ROLLOUTS, 1)
    assert Counter(key[0] for key in counted)["phoenix_rollout_state"] == MOST_ROLLOUTS


def test_cpu_time_is_compared_over_a_second_at_least(tmp_path: Path) -> None:
    now = [100.0]
    collector = ResourceCollector(io_stat=tmp_path / "none", monotonic=lambda: now[0])
    collector._cpu_seconds = lambda: now[0] / 10  # type: ignore[method-assign]
    collector._window = (now[0], now[0] / 10)
    now[0] += 0.5
    assert collector._cpu_percent() == 0.0
    now[0] += 9.5
    first = collector._cpu_percent()
    assert 0 < first <= 10.0
    now[0] += 0.5
    assert collector._cpu_percent() == first


def test_operations_are_those_of_the_control_group_where_it_tells_them(tmp_path: Path) -> None:
    io_stat = tmp_path / "io.stat"
    io_stat.write_text(
        "8:0 rbytes=90 wbytes=80 rios=7 wios=6 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=1 rios=1 wios=2\n"
    )
    assert operations(io_stat.read_text()) == (8, 8)
    disk = next(
        one for one in ResourceCollector(io_stat=io_stat).collect() if one.name == "disk_io_operations"
    )
    assert {s.labels["scope"] for s in disk.samples} == {"cgroup"}
    for text in ("", "8:0 rios=many"):
        with pytest.raises(ValueError, match=r"io\.stat|invalid literal"):
            operations(text)


def test_the_control_group_is_the_process_s_own(tmp_path: Path) -> None:
    groups = tmp_path / "cgroup"
    groups.write_text("9:memory:/old\n0::/system.slice/phoenix.service\n")
    assert own_io_stat(groups, Path("/g")) == Path("/g/system.slice/phoenix.service/io.stat")
    assert own_io_stat(tmp_path / "none", Path("/g")) == Path("/g/io.stat")


async def test_a_process_without_an_api_serves_metrics_and_nothing_else() -> None:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve_metrics("127.0.0.1", 0, port.set_result))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await port}") as http:
        page = await http.get("/metrics?x=y", headers={"Accept": "application/openmetrics-text"})
        assert page.headers["content-type"].startswith("application/openmetrics-text")
        assert "cpu_usage_percent" in page.text
        assert (await http.get("/")).status_code == httpx.codes.NOT_FOUND
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_a_canary_of_phoenix_can_be_judged_by_what_it_shows() -> None:
    """Our own judge reads our own page, and leaves out whoever looks after the process."""

    def read() -> dict[tuple[str, str], float]:
        found: Counter[tuple[str, str]] = Counter()
        for name, number in process_page(metrics.page()[0].decode(), "new", ()).series:
            key = split(name)
            found[key.kind, key.name] += number
        return dict(found)

    before = read()
    for route, code, seconds in (
        ("/api/v1/rollouts", 200, 0.15),
        ("/api/v1/rollouts", 503, 0.3),
        ("/livez", 200, 0.001),
        ("/readyz", 503, 0.001),
        ("/metrics", 200, 0.01),
    ):
        metrics.request_answered("GET", route, code, seconds)
    after = read()

    def more(kind: str, name: str = "") -> float:
        return after[kind, name] - before.get((kind, name), 0)

    assert (more("ok"), more("error")) == (1, 1)
    assert (more("le", "0.1"), more("le", "0.2"), more("le", "inf")) == (0, 1, 2)
    assert process_page(metrics.page()[0].decode(), "new", ()).started is not None

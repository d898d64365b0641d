"""Queries of a Rollout, and metrics that a Prometheus does not know, asked of a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from tests import debian
from tests.integration.real_prometheus import Job, RealPrometheus, page, running

from phoenix_orch.health_validator.observation import Arm, Observation
from phoenix_orch.health_validator.sources.prometheus_api import PrometheusApi
from phoenix_orch.health_validator.sources.prometheus_questions import Questions
from phoenix_orch.health_validator.sources.source import Context, Reading, SourceMemory
from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.orchestrator.cluster.declared import Declared
from phoenix_orch.orchestrator.cluster.known_metrics import KnownMetrics
from phoenix_orch.orchestrator.cluster.prometheus import Endpoints
from phoenix_orch.orchestrator.cluster.queries import with_queries
from phoenix_orch.rollout.kubernetes_spec import KubernetesRolloutSpec
from phoenix_orch.rollout.status import Rollout
from phoenix_orch.testing.loopback import wait_until
from phoenix_orch.workload.workload import Instance, InstanceState, WorkloadState

pytestmark = pytest.mark.anyio

AT = datetime(2026, 1, 1, tzinfo=UTC)
PODS = {"old": "web-5d4f8c7b9-abcde", "new": "web-canary-7c9d6f5b8-fghij"}
RATIO = {"name": "paid", "query": 'paid_ratio{namespace="{namespace}",pod=~"{pods}"}', "minimum": 0.9}


def declared(**evidence: Any) -> Declared:
    spec = KubernetesRolloutSpec.model_validate(
        {"workload": {"name": "web"}, "traffic": {"ingress": "web"}, "evidence": evidence}
    )
    rollout = Rollout(name="web", service="web", route="web", spec=spec.common(), target="new")
    return Declared("uid-1", "phoenix-orch", spec, rollout)


class Shop:
    """Pages of two pods, each with the gauge `paid_ratio`."""

    def __init__(self) -> None:
        self.registries = {pod: CollectorRegistry() for pod in PODS.values()}
        self.paid = {
            revision: Gauge("paid_ratio", "Paid.", registry=self.registries[pod])
            for revision, pod in PODS.items()
        }
        for gauge in self.paid.values():
            gauge.set(0.95)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Shop, RealPrometheus]]:
    try:
        debian.program("prometheus", "prometheus")
    except Terminal as missing:
        pytest.skip(str(missing))
    shop = Shop()
    with ExitStack() as stack:
        jobs = []
        for pod, registry in shop.registries.items():
            port = stack.enter_context(page(lambda registry=registry: generate_latest(registry)))  # type: ignore[misc]
            jobs.append(Job(f"pods-{pod}", port, {"namespace": "phoenix-orch", "pod": pod}))
        yield shop, stack.enter_context(running(*jobs, pace=0.5))


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[Questions]:
    api = PrometheusApi([url], timeout=5.0)
    try:
        yield Questions(api, fresh=0.0)
    finally:
        await api.aclose()


def context() -> Context:
    instances = tuple(
        Instance(name=pod, revision=revision, state=InstanceState.READY, port=80)
        for revision, pod in PODS.items()
    )
    return Context(
        rollout="web",
        route="web",
        revision="new",
        stable="old",
        step=0,
        weight=20,
        t0=AT,
        t1=AT + timedelta(seconds=10),
        interval=timedelta(seconds=10),
        workload=WorkloadState(service="web", at=AT, instances=instances),
    )


def reading() -> Reading:
    observation = Observation(
        t0=AT,
        t1=AT + timedelta(seconds=10),
        revision="new",
        step=0,
        weight_applied=20,
        canary=Arm(revision="new", values={"queue": 1.0}),
        stable=Arm(revision="old"),
    )
    return Reading(observation, SourceMemory())


async def answered(url: str, *queries: dict[str, Any]) -> Observation:
    async with asking(url) as questions:
        return (await with_queries(declared(queries=queries), context(), reading(), questions)).observation


async def known(prometheus: RealPrometheus, query: str, value: float) -> None:
    async def there() -> bool:
        return await prometheus.value(query) == value

    await wait_until(f"{query} is {value}", there, 20)


async def test_each_variant_is_asked_of_its_own_pods(served: tuple[Shop, RealPrometheus]) -> None:
    shop, prometheus = served
    shop.paid["new"].set(0.5)
    await known(prometheus, f'paid_ratio{{pod="{PODS["new"]}"}}', 0.5)
    await known(prometheus, f'paid_ratio{{pod="{PODS["old"]}"}}', 0.95)
    seen = await answered(prometheus.url, RATIO)
    assert seen.stable is not None
    assert seen.canary.values == {"queue": 1.0, "paid": 0.5}
    assert seen.stable.values == {"paid": 0.95}
    assert seen.notes == ()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("nothing_at_all", "gives no number"),
        ('paid_ratio{pod=~"{pods}"} / 0 - paid_ratio{pod=~"{pods}"} / 0', "gives no number"),
        ("vector(1) / 0", "gives no number"),
        ("sum(", "parse error"),
    ],
)
async def test_r1_an_answer_without_a_number_is_no_data(
    served: tuple[Shop, RealPrometheus], query: str, said: str
) -> None:
    seen = await answered(served[1].url, {"name": "q", "query": query, "maximum": 1})
    assert "q" not in seen.canary.values
    assert said in " ".join(seen.notes)


async def test_a_server_that_is_away_is_no_data() -> None:
    seen = await answered("http://127.0.0.1:1", RATIO)
    assert "paid" not in seen.canary.values
    assert seen.notes


async def test_a_plain_number_and_the_time_to_look_back(served: tuple[Shop, RealPrometheus]) -> None:
    number = {"name": "n", "query": "scalar(vector(2))", "maximum": 3}
    window = {"name": "w", "query": "count_over_time(vector(1)[{window}:1s]) > 0", "minimum": 1}
    seen = await answered(served[1].url, number, window)
    assert seen.canary.values["n"] == 2
    assert 55 <= seen.canary.values["w"] <= 65  # the window is a minute


async def test_of_several_series_the_one_nearest_to_a_breach_counts(
    served: tuple[Shop, RealPrometheus],
) -> None:
    shop, prometheus = served
    shop.paid["new"].set(0.25)
    await known(prometheus, f'paid_ratio{{pod="{PODS["new"]}"}}', 0.25)
    floor = {"name": "floor", "query": "paid_ratio", "minimum": 0.9}
    ceiling = {"name": "ceiling", "query": "paid_ratio", "maximum": 0.9}
    seen = await answered(prometheus.url, floor, ceiling)
    assert (seen.canary.values["floor"], seen.canary.values["ceiling"]) == (0.25, 0.95)


async def test_one_question_serves_everybody_who_has_it(served: tuple[Shop, RealPrometheus]) -> None:
    asked: list[str] = []

    class Counting(PrometheusApi):
        async def ask(self, query: str) -> Any:
            asked.append(query)
            return await super().ask(query)

    api = Counting([served[1].url])
    try:
        questions = Questions(api)
        for _ in range(3):
            await with_queries(
                declared(queries=[{"name": "all", "query": "sum(paid_ratio)", "minimum": 0}]),
                context(),
                reading(),
                questions,
            )
    finally:
        await api.aclose()
    assert asked == ["sum(paid_ratio)"]


async def test_a_release_waits_for_a_metric_that_nobody_knows_and_starts_when_it_appears(
    served: tuple[Shop, RealPrometheus],
) -> None:
    shop, prometheus = served
    endpoints = Endpoints({"default": [prometheus.url]})
    metrics = KnownMetrics(endpoints)
    one = declared(business=[{"name": "orders", "counter": "orders_total", "minPerRequest": 0.1}])
    try:
        unchecked = metrics.obstacle(one)
        assert unchecked is not None
        assert unchecked.reason == "MetricUnchecked"
        await metrics.look()
        found = metrics.obstacle(one)
        assert found is not None
        assert (found.reason, "counter orders_total" in found.message) == ("MetricUnknown", True)
        Gauge("orders_total", "Orders.", registry=shop.registries[PODS["new"]]).set(0)

        async def there() -> bool:
            await metrics.look()
            return metrics.obstacle(one) is None

        await wait_until("the counter is known", there, 30)
    finally:
        await endpoints.aclose()


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        ({"queries": [RATIO]}, None),
        ({"values": [{"name": "paid", "gauge": "paid_ratio", "minimum": 1}]}, None),
        ({"values": [{"name": "paid", "gauge": "payed_ratio", "minimum": 1}]}, "MetricUnknown"),
        ({"queries": [{**RATIO, "query": 'payed{pod=~"{pods}"}'}]}, "MetricUnknown"),
        ({"queries": [{**RATIO, "query": "sum("}]}, "QueryRefused"),
        ({"queries": [RATIO], "prometheus": "second"}, "PrometheusUnknown"),
        ({}, None),
    ],
)
async def test_what_a_rollout_names_is_looked_for(
    served: tuple[Shop, RealPrometheus], evidence: dict[str, Any], reason: str | None
) -> None:
    endpoints = Endpoints({"default": [served[1].url]})
    metrics, one = KnownMetrics(endpoints), declared(**evidence)
    try:
        metrics.obstacle(one)
        await metrics.look()
        found = metrics.obstacle(one)
    finally:
        await endpoints.aclose()
    assert (found.reason if found is not None else None) == reason


async def test_who_has_no_prometheus_to_ask_keeps_nobody_waiting() -> None:
    assert KnownMetrics(Endpoints({})).obstacle(declared(queries=[RATIO])) is None


async def test_a_server_that_does_not_answer_is_no_yes() -> None:
    endpoints = Endpoints({"default": ["http://127.0.0.1:1"]})
    metrics, one = KnownMetrics(endpoints), declared(queries=[RATIO])
    try:
        metrics.obstacle(one)
        await metrics.look()
        found = metrics.obstacle(one)
    finally:
        await endpoints.aclose()
    assert found is not None
    assert found.reason == "MetricUnchecked"

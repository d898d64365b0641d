"""What metrics and traces say of a release that walks, and of one that is taken back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import pytest
from tests.unit.controller_setting import SHOP, World

from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.observability import metrics, tracing
from phoenix_orch.observability.traceparent import TraceParent
from phoenix_orch.observability.tracing import NoSpan, Span, Value
from phoenix_orch.rollout.status import State

pytestmark = pytest.mark.anyio


class Spans:
    """An exporter that keeps names and attributes."""

    def __init__(self) -> None:
        self.made: list[tuple[str, dict[str, Value]]] = []

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
        self.made.append((name, dict(attributes)))
        yield NoSpan(), TraceParent(f"{len(self.made):032x}", "0" * 15 + "1", sampled=True)


@pytest.fixture
def spans() -> Iterator[Spans]:
    made = Spans()
    tracing.export_to(made)
    yield made
    tracing.export_to(None)


@pytest.fixture
def world() -> Iterator[World]:
    metrics.ROLLOUTS.forget_rollouts()  # those of whole processes that ran in this one before
    yield World()
    metrics.ROLLOUTS.forget_rollouts()


def value(name: str, **labels: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(name, labels)


def state() -> str:
    """That the metrics show of the one rollout."""
    family = next(one for one in metrics.ROLLOUTS.collect() if one.name == "phoenix_rollout_state")
    (sample,) = family.samples
    assert sample.labels["rollout"] == SHOP
    return sample.labels["state"]


async def test_metrics_follow_a_release_and_go_with_its_rollout(world: World) -> None:
    promoted = value("phoenix_releases_total", outcome="promoted") or 0
    await world.progressing()
    await world.passes()
    assert state() == State.PROGRESSING
    assert value("phoenix_rollout_weight_wanted_percent", rollout=SHOP) == 50
    assert value("phoenix_rollout_weight_seen_percent", rollout=SHOP) == 50
    assert value("phoenix_rollout_step", rollout=SHOP) == 1
    assert value("phoenix_rollout_steps", rollout=SHOP) == 2
    assert 0 < (value("phoenix_rollout_step_seconds", rollout=SHOP) or 0) < 60
    await world.until(State.PROMOTED, advance=True)
    assert value("phoenix_releases_total", outcome="promoted") == promoted + 1
    await world.store.remove(SHOP)
    await world.passes()
    assert not next(one for one in metrics.ROLLOUTS.collect() if one.name == "phoenix_rollout_state").samples


async def test_an_abort_is_timed_and_what_acts_is_traced(world: World, spans: Spans) -> None:
    labels = {"component": "orchestrator", "outcome": "ok"}
    aborts = value("phoenix_abort_duration_seconds_count", **labels) or 0
    await world.progressing()
    spans.made.clear()
    await world.passes(3)
    assert spans.made == []  # they changed nothing
    await world.judge(VerdictKind.ROLLBACK)
    await world.until(State.ROLLED_BACK)
    assert value("phoenix_abort_duration_seconds_count", **labels) == aborts + 1
    name, attributes = spans.made[0]
    assert (name, attributes["phoenix.rollout"], attributes["phoenix.state"]) == (
        "rollout pass",
        SHOP,
        State.ROLLING_BACK,
    )

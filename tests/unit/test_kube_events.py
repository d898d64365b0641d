"""Events: the same again is counted, too many are dropped, and nobody waits."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.kernel.errors import NotFound, Retryable
from phoenix_orch.kube.aggregation import (
    BURST,
    REMEMBERED,
    SERIES_ENDS,
    UPDATE_EVERY,
    Aggregator,
    Happening,
    Reference,
)
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.patches import Patch
from phoenix_orch.kube.recorder import QUEUE, Recorder
from phoenix_orch.kube.resources import Object

WEB = Reference("apps/v1", "Deployment", "shop", "web", "u1")


def happening(note: str = "weight is 5 %", about: Reference = WEB) -> Happening:
    return Happening(about, "Normal", "WeightChanged", "SetWeight", note)


def test_the_same_again_is_counted_and_told_once_a_minute() -> None:
    aggregator = Aggregator()
    told: list[tuple[float, int]] = []
    for now in range(0, 301, 10):
        series = aggregator.note(happening(), float(now))
        if series is not None:
            told.append((now, series.count))
            aggregator.told(series, series.count, float(now))
    assert told == [(0, 1), (10, 2), (70, 8), (130, 14), (190, 20), (250, 26)]
    assert [series.count for series in aggregator.due(250 + UPDATE_EVERY)] == [31]


def test_a_series_ends_when_it_does_not_come_again() -> None:
    aggregator = Aggregator()
    first = aggregator.note(happening(), 0.0)
    assert first is not None
    aggregator.told(first, 1, 0.0)
    aggregator.ended(SERIES_ENDS + 1)
    again = aggregator.note(happening(), SERIES_ENDS + 2)
    assert again is not None
    assert again.count == 1


def test_one_object_cannot_fill_the_cluster_with_events() -> None:
    aggregator = Aggregator()
    told = [aggregator.note(happening(str(number)), 0.0) for number in range(1000)]
    assert sum(series is not None for series in told) == BURST
    other = Reference("apps/v1", "Deployment", "shop", "other")
    assert aggregator.note(happening(about=other), 0.0) is not None


@given(st.lists(st.integers(0, 5000), max_size=300))
def test_memory_is_bounded(numbers: list[int]) -> None:
    aggregator = Aggregator()
    for number in [*range(REMEMBERED), *numbers]:
        aggregator.note(happening(about=Reference("v1", "Pod", "shop", f"p{number}")), 0.0)
    assert len(aggregator._series) <= REMEMBERED
    assert len(aggregator._rates) <= REMEMBERED


class Api:
    """What a recorder uses of a client."""

    def __init__(self) -> None:
        self.made: list[Object] = []
        self.patched: list[tuple[str, Any]] = []
        self.error: Exception | None = None

    async def create(self, _: object, body: Object, namespace: str) -> Object:
        if self.error:
            raise self.error
        self.made.append(body)
        return {"metadata": {"uid": f"e{len(self.made)}"}}

    async def patch(self, _: object, name: str, patch: Patch, namespace: str) -> Object:
        if self.error:
            error, self.error = self.error, None
            raise error
        self.patched.append((name, patch.body))
        return {}


def recorder(api: Api) -> Recorder:
    return Recorder(cast("KubeClient", api), component="phoenix-orch.io/rollout-controller", instance="one")


async def test_an_event_says_who_did_what_to_whom() -> None:
    api = Api()
    made = recorder(api)
    made.record(
        WEB, "RolledBack", "errors above \x1b[31m0.1 %\n" + "é" * 2000, action="Abort", type="Warning"
    )
    await made.flush()
    (event,) = api.made
    assert event["regarding"]["name"] == "web"
    assert (event["type"], event["reason"], event["action"]) == ("Warning", "RolledBack", "Abort")
    assert event["reportingController"] == "phoenix-orch.io/rollout-controller"
    assert event["note"].startswith("errors above 0.1 % é")
    assert len(event["note"].encode()) <= 1024


async def test_a_series_is_written_onto_its_event() -> None:
    api = Api()
    made = recorder(api)
    for _ in range(3):
        made.record(WEB, "Held", "no evidence", action="Hold")
    await made.flush()
    name, operations = api.patched[0]
    assert name == api.made[0]["metadata"]["name"]
    assert operations[0] == {"op": "test", "path": "/metadata/uid", "value": "e1"}
    assert operations[1]["value"]["count"] == 2


async def test_an_event_that_is_gone_is_made_anew_with_its_count() -> None:
    api = Api()
    made = recorder(api)
    made.record(WEB, "Held", "no evidence", action="Hold")
    await made.flush()
    api.error = NotFound("gone")
    made.record(WEB, "Held", "no evidence", action="Hold")
    await made.flush()
    assert api.made[1]["series"]["count"] == 2


async def test_nothing_waits_and_nothing_fails_while_the_api_server_is_away() -> None:
    api = Api()
    api.error = Retryable("away")
    made = recorder(api)
    for number in range(QUEUE + 10):
        made.record(WEB, "Held", str(number), action="Hold")
    assert made.dropped == 10
    await made.flush()
    assert made.dropped == 10 + BURST

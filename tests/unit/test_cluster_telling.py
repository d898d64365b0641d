"""Which Events of Kubernetes come of the events of the store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from phoenix_orch.kube.aggregation import Reference
from phoenix_orch.kube.recorder import Recorder
from phoenix_orch.orchestrator.cluster.declared import Rollouts
from phoenix_orch.orchestrator.cluster.telling import Telling, kind_of
from phoenix_orch.rollout.status import Event

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Told(list[tuple[Reference, str, str, str]]):
    def record(self, about: Reference, reason: str, note: str, *, action: str, type: str) -> None:  # noqa: A002
        self.append((about, type, reason, note))


def event(reason: str, message: str = "so it was", **more: Any) -> Event:
    return Event(at=AT, reason=reason, message=message, **more)


def telling(told: Told, *names: str) -> Telling:
    objects: list[dict[str, Any]] = [
        {
            "metadata": {
                "name": name,
                "namespace": "shops",
                "uid": f"uid-of-{name}",
                "resourceVersion": "1",
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"workload": {"name": name}, "traffic": {"ingress": name}},
        }
        for name in names
    ]
    return Telling(cast("Recorder", told), Rollouts(objects))


def test_each_event_is_told_once_about_its_rollout() -> None:
    told = Told()
    tell = telling(told, "web", "cart")
    tell("web", [event("Step"), event("RollingBack", "errors", actor="anna")])
    tell("web", [event("Step")])  # written a second time, since the first answer was lost
    tell("cart", [event("Step")])
    web = Reference("phoenix-orch.io/v1alpha1", "Rollout", "shops", "web", "uid-of-web")
    assert told[:2] == [
        (web, "Normal", "Step", "so it was"),
        (web, "Warning", "RollingBack", "errors (anna)"),
    ]
    assert [(about.name, reason) for about, _, reason, _ in told[2:]] == [("cart", "Step")]


def test_of_a_rollout_that_is_gone_nothing_is_told() -> None:
    told = Told()
    telling(told)("web", [event("Step")])
    assert told == []


@pytest.mark.parametrize(
    ("reason", "kind"), [("Promoted", "Normal"), ("RolledBack", "Warning"), ("Drift", "Warning")]
)
def test_what_a_person_should_look_at_is_a_warning(reason: str, kind: str) -> None:
    assert kind_of(event(reason)) == kind

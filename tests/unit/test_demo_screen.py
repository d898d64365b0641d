"""The live picture: it fits a small terminal and shows what the demo promises to show."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from phoenix_orch.demo.scenario import RELEASES
from phoenix_orch.demo.screen import Picture, Scene
from phoenix_orch.demo.users import Users
from phoenix_orch.health_validator.observation import MetricEvidence, Verdict, VerdictKind
from phoenix_orch.orchestrator.views import Rates, RolloutView
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import Cause, Event, Rollout, State, Status
from phoenix_orch.traffic.router import Group, TrafficSeen, TrafficState

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
STABLE, CANARY = "aaaaaaaaaa", "bbbbbbbbbb"
EVIDENCE = MetricEvidence(
    metric="errorRate",
    observed=0.21,
    limit=0.001,
    stable=0.0,
    samples=43,
    breached=True,
    window=timedelta(minutes=1),
)


def view(status: Status, *, aborted: tuple[str, ...] = (), seen: TrafficSeen | None = None) -> RolloutView:
    return RolloutView(
        at=NOW,
        rollout=Rollout(
            name="shop", service="shop", route="shop", spec=RolloutSpec(), target=CANARY, status=status
        ),
        steps=RolloutSpec().steps(),
        versions={STABLE: "2", CANARY: "3"},
        traffic=TrafficState(route="shop", stable=Group(revision=STABLE), aborted=aborted),
        seen=seen or TrafficSeen(weight=5, canary_revision=CANARY, stable_revision=STABLE),
        verdict=Verdict(
            kind=VerdictKind.CONTINUE, revision=CANARY, step=0, at=NOW, reason="within limits so far"
        ),
        canary=Rates(requests_per_second=0.75, error_rate=0.002, p95=0.0142, p99=0.021, requests=345),
        stable=Rates(requests_per_second=14.25, error_rate=0.0, p95=0.013, p99=0.02, requests=6555),
        time_left=timedelta(minutes=44, seconds=10),
        speed=20.0,
    )


def progressing() -> Scene:
    status = Status(state=State.PROGRESSING, stable=STABLE, canary=CANARY, step=0, weight=5)
    return Scene(
        releases=RELEASES,
        speed=20.0,
        address="http://127.0.0.1:41234",
        current=1,
        good=[True],
        view=view(status),
        events=[
            Event(at=NOW - timedelta(seconds=20 * n), reason="Step", message=f"event {n} " + "long " * 30)
            for n in range(12, 0, -1)
        ],
        users=Users(sent=52_345, answered=52_340, failed=3, p95=0.016),
        release_users=Users(sent=2_345, answered=2_340, failed=3),
        rate=299.6,
    )


def drawn(scene: Scene, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, height=24, force_terminal=False)
    console.print(Picture(scene))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_a_picture_fits_the_terminal(width: int) -> None:
    lines = drawn(progressing(), width).splitlines()
    assert len(lines) <= 23  # one line is the cursor's
    assert max(len(line) for line in lines) <= width


@pytest.mark.parametrize(
    "fact",
    [
        "2 of 4: one request in five fails",
        "expected: rolled back",
        "✓ good  ▶ errors  · slow  · crash",
        "one minute of the guide lasts 3.0 s here",
        "shop  2 → 3",
        "Progressing",
        "▶ initial 5%  · expanded 20%  · full 40% 60% 80% 100%  · bake",
        "weight 5% wanted, 5% seen",
        "44m10s left (2m12s on your watch)",
        "0.75",  # canary requests per second of the guide's clock
        "14.2",  # the same of stable
        "0.2 %",
        "14.2 ms",
        "21 ms",
        "345",
        "verdict continue: within limits so far",
        "300/s here, p95 16 ms",
        "this release: 2,345 requests, 3 failed",
        "1 s ago",
    ],
)
def test_a_picture_shows(fact: str) -> None:
    assert fact in drawn(progressing())


def test_a_rollback_shows_latch_cause_and_reason() -> None:
    scene = progressing()
    cause = Cause(
        revision=CANARY,
        trigger="verdict",
        reason="error rate 21 % is above 0.1 %",
        at=NOW,
        evidence=(EVIDENCE,),
    )
    status = Status(state=State.ROLLING_BACK, stable=STABLE, canary=CANARY, cause=cause)
    scene.view = view(status, aborted=(CANARY,), seen=TrafficSeen(weight=0, stable_revision=STABLE))
    text = drawn(scene)
    assert "rolled back by verdict" in text
    assert "error rate 21 % is above 0.1 %" in text
    assert "weight 0% wanted, 0% seen" in text
    assert "latched" in text


def test_an_unseen_weight_is_not_shown_as_a_number() -> None:
    scene = progressing()
    assert scene.view is not None
    scene.view = scene.view.model_copy(update={"seen": None})
    assert "weight 5% wanted, not seen" in drawn(scene)


def test_events_fill_what_is_free_and_no_more() -> None:
    assert drawn(progressing()).count("Step event") < 12
    scene = progressing()
    assert scene.view is not None
    many = Cause(
        revision=CANARY,
        trigger="verdict",
        reason="far too many errors " * 12,
        at=NOW,
        evidence=5 * (EVIDENCE,),
    )
    status = Status(state=State.ROLLING_BACK, stable=STABLE, canary=CANARY, cause=many, message="on its way")
    scene.view = view(status)
    assert len(drawn(scene).splitlines()) <= 23


def test_before_anything_runs_the_picture_says_what_is_waited_for() -> None:
    text = drawn(Scene(releases=RELEASES, speed=20.0, message="starting users"))
    assert "starting users" in text
    assert "· good  · errors" in text

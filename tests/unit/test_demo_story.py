"""What counts as an expected end, and how it is told."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from phoenix_orch.demo import figures
from phoenix_orch.demo.machine import busy
from phoenix_orch.demo.report import as_json, summary
from phoenix_orch.demo.scenario import RELEASES, Planned
from phoenix_orch.demo.story import Story, deadline, found
from phoenix_orch.demo.users import Users, read_line
from phoenix_orch.health_validator.observation import MetricEvidence
from phoenix_orch.orchestrator.views import Rates, RolloutView
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import (
    Cause,
    Outcome,
    Release,
    Rollout,
    State,
    Status,
    Verification,
    VerifyStep,
)
from phoenix_orch.traffic.router import TrafficSeen
from phoenix_orch.workload.workload import Exit, WorkloadState

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
GOOD, ERRORS, SLOW, CRASH = RELEASES


def evidence(metric: str = "errorRate", *, breached: bool = True) -> MetricEvidence:
    return MetricEvidence(
        metric=metric, observed=0.21, limit=0.001, stable=0.0, samples=43, breached=breached
    )


LATE = MetricEvidence(
    metric="latencyP95", observed=0.31, limit=0.1, samples=1200, window=timedelta(minutes=1)
)
FEW = MetricEvidence(metric="business/orders", observed=0.01, limit=0.02, stable=0.5, at_least=True)


def story(planned: Planned, outcome: Outcome | None, cause: Cause | None = None) -> Story:
    made = Story(planned, "rev", Users(sent=100, failed=1), began=10.0)
    made.see(view(weight=5), Users(sent=400, failed=4), now=14.0)
    if outcome is not None:
        made.end(
            Release(
                number=2,
                revision="rev",
                version=planned.version,
                started=START,
                ended=START + timedelta(seconds=80),
                outcome=outcome,
                reason="because",
                cause=cause,
                verification=Verification(
                    kind="rollback",
                    revision="old",
                    release=2,
                    at=START,
                    steps=(VerifyStep(name="health", ok=True, detail="2 of 2 ready"),),
                ),
            )
        )
    return made


def cause(trigger: str, *evidences: MetricEvidence) -> Cause:
    return Cause(
        revision="rev",
        trigger=trigger,
        reason="21 % errors",
        at=START + timedelta(seconds=30),
        step=0,
        weight=5,
        evidence=evidences,
    )


def view(*, weight: int = 0, stable: str = "old", exits: tuple[Exit, ...] = ()) -> RolloutView:
    return RolloutView(
        at=START,
        rollout=Rollout(
            name="shop",
            service="shop",
            route="shop",
            target="rev",
            status=Status(state=State.PROGRESSING, stable="old", canary="rev"),
        ),
        steps=RolloutSpec().steps(),
        seen=TrafficSeen(weight=weight, canary_revision="rev", stable_revision=stable),
        workload=WorkloadState(service="shop", at=START, exits=exits),
        canary=Rates(requests=43, errors=9),
    )


def test_a_promotion_that_was_seen_at_100_percent_is_as_expected() -> None:
    made = story(GOOD, None)
    made.see(view(stable="rev"), Users(), now=15.0)
    made.end(Release(number=1, revision="rev", ended=START, outcome=Outcome.PROMOTED))
    assert made.highest_weight == 100
    assert made.faults == ()


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        (story(ERRORS, None), "did not come to an end"),
        (story(ERRORS, Outcome.PROMOTED), "expected rolled back, was promoted"),
        (story(GOOD, Outcome.ROLLED_BACK, cause("verdict")), "expected promoted to 100 %, was rolled back"),
        (story(GOOD, Outcome.PROMOTED), "100 % was never seen"),
        (story(ERRORS, Outcome.ROLLED_BACK), "without a cause"),
        (story(ERRORS, Outcome.ROLLED_BACK, cause("person", evidence())), "rolled back, but by person"),
        (story(ERRORS, Outcome.ROLLED_BACK, cause("verdict", evidence("latencyP95"))), "errorRate is not"),
        (
            story(SLOW, Outcome.ROLLED_BACK, cause("verdict", evidence("latencyP95", breached=False))),
            "latencyP95 is not above",
        ),
    ],
)
def test_any_other_end_is_a_fault(made: Story, fault: str) -> None:
    assert any(fault in found_fault for found_fault in made.faults)


@pytest.mark.parametrize(
    ("planned", "why"),
    [
        (ERRORS, cause("verdict", evidence())),
        (SLOW, cause("verdict", evidence("latencyP95"))),
        (CRASH, cause("crash-loop")),
    ],
)
def test_a_rollback_for_the_right_reason_is_as_expected(planned: Planned, why: Cause) -> None:
    assert story(planned, Outcome.ROLLED_BACK, why).faults == ()


def test_a_story_counts_only_its_own_release() -> None:
    exit_ = Exit(instance="shop-rev-0", revision="rev", at=START, code=1)
    other = Exit(instance="shop-old-0", revision="old", at=START, code=1)
    made = story(CRASH, None)
    for _ in range(2):
        made.see(view(exits=(exit_, other)), Users(sent=500, failed=6), now=16.0)
    assert made.exits == (exit_,)
    assert (made.users.sent, made.users.failed) == (400, 5)
    assert (made.highest_weight, made.canary_requests, made.seconds) == (5, 43, 6.0)


def test_what_users_see_after_the_end_counts_but_takes_no_time() -> None:
    made = story(ERRORS, Outcome.ROLLED_BACK, cause("verdict", evidence()))
    made.see(view(), Users(sent=900, failed=11), now=99.0)
    assert (made.users.failed, made.seconds) == (10, 4.0)


def test_the_history_line_is_found_by_revision_and_time() -> None:
    line = Release(number=1, revision="rev", ended=START, outcome=Outcome.PROMOTED)
    assert found([line], "rev", START) is line
    assert found([line], "other", START) is None
    assert found([line], "rev", START + timedelta(seconds=1)) is None


def test_the_deadline_is_beyond_the_longest_good_release() -> None:
    assert deadline(view()) > timedelta(minutes=45) + RolloutSpec().policy.bake


def rendered(*stories: Story, note: str = "") -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(summary(stories, speed=20.0, note=note))
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())  # wherever lines were broken


@pytest.mark.parametrize(
    "fact",
    [
        "errors v3",
        "✓ rolled back",
        "1:20",
        "4 s",
        "5 %",
        "error rate",
        "43",
        "users saw 3 failed requests",
        "✗ error rate 21 % of 43 requests (limit: at most 0.1 %; stable 0 %)",
        "by verdict, 0:30 of the guide's time (1.5 s here) after its start,",
        "step 1, at 5 % of the traffic",
        "afterwards, on stable: health ✓",
        "The release ended as expected.",
    ],
)
def test_the_summary_shows(fact: str) -> None:
    assert fact in rendered(story(ERRORS, Outcome.ROLLED_BACK, cause("verdict", evidence())))


def test_the_summary_names_what_went_wrong() -> None:
    text = rendered(story(ERRORS, Outcome.PROMOTED))
    assert "Not as expected: errors: expected rolled back, was promoted" in text


def test_a_rollback_for_another_reason_is_no_plain_rollback() -> None:
    text = rendered(story(CRASH, Outcome.ROLLED_BACK, cause("progress-deadline")))
    assert "progress-deadline, which was not planned" in text
    assert "crash: rolled back, but by progress-deadline instead of crash-loop" in text


def test_a_busy_machine_is_named_beside_what_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong, right = story(GOOD, Outcome.ROLLED_BACK, cause("verdict")), story(CRASH, Outcome.ROLLED_BACK)
    assert "processors" in rendered(wrong, note="the load average here is 9.0 on 2 processors")
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("os.getloadavg", lambda: (9.0, 1.0, 1.0))
    assert busy().startswith("the load average here is 9.0 on 2 processors: ")
    monkeypatch.setattr("os.getloadavg", lambda: (3.0, 9.0, 9.0))
    assert busy() == ""
    right.end(
        Release(number=1, revision="rev", ended=START, outcome=Outcome.ROLLED_BACK, cause=cause("crash-loop"))
    )
    assert "processors" not in rendered(right, note=busy())


def test_the_summary_shows_exits_of_a_crash_loop() -> None:
    made = story(CRASH, Outcome.ROLLED_BACK, cause("crash-loop"))
    made.exits = (
        Exit(instance="a", revision="rev", at=START, code=1),
        Exit(instance="a", revision="rev", at=START, code=-9),
    )
    assert "unexpected exits: 2 (exit status 1, signal 9 (SIGKILL))" in rendered(made)


def test_the_json_report_holds_outcome_and_evidence() -> None:
    report = as_json([story(ERRORS, Outcome.ROLLED_BACK, cause("verdict", evidence()))], speed=20.0, rate=300)
    (line,) = report["releases"]
    assert report["ok"] is True
    assert (line["name"], line["outcome"], line["guideSecondsToRollback"]) == ("errors", "rolledBack", 30.0)
    assert line["history"]["cause"]["evidence"][0]["samples"] == 43
    assert line["users"]["failed"] == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (figures.percent(0.0012), "0.12 %"),
        (figures.percent(None), "-"),
        (figures.latency(0.0123), "12 ms"),
        (figures.latency(None), "-"),
        (figures.clock(timedelta(minutes=3, seconds=5)), "3:05"),
        (figures.clock(timedelta(hours=1, seconds=5)), "1:00:05"),
        (figures.sentence(LATE), "latency p95 310 ms of 1,200 requests in 1m (limit: at most 100 ms)"),
        (figures.sentence(FEW), "orders per request 0.01 (limit: at least 0.02; stable 0.5)"),
    ],
)
def test_figures_read_well(text: str, expected: str) -> None:
    assert text == expected


def test_a_line_of_the_load_is_read_and_anything_else_is_not() -> None:
    assert read_line('{"at": 1.5, "sent": 3, "byStatus": {"200": 3}}') == Users(
        at=1.5, sent=3, by_status={"200": 3}
    )
    assert read_line(b"Traceback (most recent call last):") is None


def test_users_since_keeps_only_what_came_after() -> None:
    before = Users(sent=10, by_status={"200": 9, "502": 1}, by_version={"1": 9})
    after = Users(sent=15, by_status={"200": 14, "502": 1}, by_version={"1": 11, "2": 3})
    since = after.since(before)
    assert (since.sent, since.by_status, since.by_version) == (5, {"200": 5}, {"1": 2, "2": 3})

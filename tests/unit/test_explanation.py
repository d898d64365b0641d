"""A release explained: the sentence, the four numbers, what is missing, the picture."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from tests.unit import recorded

from phoenix_orch.cli import chart_file, chart_terminal, explaining
from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.explanation import explained, unrecorded
from phoenix_orch.health_validator.foreseen import about
from phoenix_orch.health_validator.judge import JudgeConfig
from phoenix_orch.health_validator.observation import Verdict, VerdictKind
from phoenix_orch.health_validator.picture import picture
from phoenix_orch.health_validator.recording import Header
from phoenix_orch.health_validator.telling import rarity, spoken
from phoenix_orch.health_validator.whatif import judged
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.rollout.spec import Limits, Phase, Policy, RolloutSpec, Statistical
from phoenix_orch.rollout.status import Cause

LITERAL = recorded.SPEC.model_copy(update={"policy": Policy(gate="literal")})
BAD = recorded.release(failing=0.2, fails_from=timedelta(minutes=1), stable_failing=0.002)


def rows(found):
    return {number.name: number for number in found.numbers}


def test_a_rollback_is_told_in_a_sentence_and_numbers():
    found = explained(BAD, LITERAL)
    assert found.kind is VerdictKind.ROLLBACK
    assert found.sentence.startswith(
        f"Rolled back after {spoken(found.after)} at 10 % traffic. Canary failed "
    )
    assert "(95 % interval " in found.sentence
    assert ", limit 1 %); stable failed 0." in found.sentence
    assert found.sentence.endswith("Blamed: error rate.")
    assert "%%" not in found.sentence
    until = [o for o in BAD.observations if o.t1 <= found.at]
    assert rows(found)["exposed"].value == f"{sum(o.canary.requests for o in until):,}"
    assert rows(found)["canary"].meaning.startswith(f"{sum(o.canary.errors for o in until)} of ")
    (metric, *_) = found.metrics
    assert (metric.metric, metric.breached, metric.title) == ("errorRate", True, "error rate")


def test_who_came_after_the_last_look_is_not_said_to_be_counted():
    """Until the router follows, requests go on to the canary, and nobody observes them any more."""
    back = explained(BAD, LITERAL)
    assert rows(back)["exposed"].meaning.startswith("requests went to the canary until the verdict, ")
    (note,) = back.notes
    assert note == (
        "requests that came after the verdict, until the router sent the canary nothing, are not counted in "
        "what went to it"
    )
    cause = Cause(revision="2222222222", trigger="person", reason="abort", at=recorded.BEGAN, weight=50)
    aborted = explained(recorded.release(), LITERAL, cause=cause)
    assert "until the last observation, " in rows(aborted)["exposed"].meaning
    assert "came after the last observation" in aborted.notes[-1]
    going = explained(recorded.release(), LITERAL)
    assert rows(going)["exposed"].meaning.startswith("requests went to the canary in all, ")
    assert going.notes == ()


def test_the_picture_has_a_point_for_each_observation():
    found = explained(BAD, LITERAL).picture
    assert found is not None
    assert [point.seconds for point in found.points] == [10.0 * (n + 1) for n in range(42)]
    for point, observation in zip(found.points, BAD.observations, strict=True):
        assert (point.step, point.limit) == (observation.step, 0.01)
        assert point.canary is not None
        assert point.canary.lower <= point.canary.observed <= point.canary.upper
        assert point.stable is not None
        assert point.stable.upper - point.stable.lower < point.canary.upper - point.canary.lower
    first_of_second = next(point for point in found.points if point.step == 1)
    assert first_of_second.canary.requests == BAD.observations[21].canary.requests


def test_latency_is_drawn_when_asked_for():
    found = explained(BAD, LITERAL, metric="latencyP95").picture
    assert found is not None
    assert found.metric == "latencyP95"
    assert found.points[-1].limit == 0.05
    assert 0 < found.points[-1].canary.observed < 0.03
    with pytest.raises(Invalid, match="cannot be drawn"):
        explained(BAD, LITERAL, metric="cpu")


def test_a_release_that_has_ended_well_says_so():
    record = recorded.release()
    header = record.header.model_copy(update={"outcome": "promoted"})
    found = explained(type(record)(record.source, header, record.observations), recorded.SPEC)
    assert found.sentence.startswith("Promoted; observed for 7 min, at last at 50 % traffic")
    assert "Canary failed 0 of " in found.sentence


def test_how_a_release_on_its_way_stands_is_told_with_where_it_is():
    found = explained(recorded.release(walk=((10, timedelta(minutes=2)),)), recorded.SPEC)
    assert found.sentence.startswith(
        "No fault found so far; observed for 2 min, now in phase initial at 10 % traffic. "
    )
    walk = ((10, timedelta(minutes=3.5)), (50, timedelta(minutes=3.5)), (100, timedelta(minutes=1)))
    record = recorded.release(walk=walk)
    baking = explained(record, recorded.SPEC).sentence
    assert baking.startswith("No fault found so far; observed for 8 min, now baking at 100 % traffic")
    paused = explained(record, recorded.SPEC, standing="Paused").sentence
    assert paused.startswith("Paused: no fault found so far; observed for 8 min")


def test_at_full_weight_nothing_is_said_of_stable():
    walk = ((10, timedelta(minutes=3.5)), (50, timedelta(minutes=3.5)), (100, timedelta(minutes=2)))
    record = recorded.release(walk=walk)
    rose = next(n for n, o in enumerate(record.observations) if o.weight_applied == 100)
    seen = list(record.observations)
    seen[rose] = seen[rose].model_copy(update={"stable": seen[rose - 1].stable})
    for spec in (recorded.SPEC, LITERAL):
        found = explained(replace(record, observations=tuple(seen)), spec)
        assert "in the same minutes" not in found.sentence
        assert "; stable gets no requests to compare with at 100 % traffic" in found.sentence
        number = rows(found)["stable"]
        assert (number.value, number.meaning) == ("-", "gets no requests to compare with at 100 % traffic")


def test_what_took_it_back_besides_a_verdict_comes_first():
    cause = Cause(
        revision="2222222222", trigger="crash-loop", reason="2 exits in 5m", at=recorded.BEGAN, weight=10
    )
    found = explained(recorded.release(walk=((10, timedelta(minutes=2)),)), LITERAL, cause=cause)
    assert found.sentence.startswith(
        "Rolled back at 10 % traffic by crash-loop: 2 exits in 5m. Canary failed 0"
    )


def test_a_record_that_says_something_else_now_says_so():
    cause = Cause(revision="2222222222", trigger="verdict", reason="too bad", at=recorded.BEGAN, weight=10)
    note, _ = explained(recorded.release(), LITERAL, cause=cause).notes
    assert note.startswith("it was taken back because too bad; judged again")


def test_without_observations_what_was_said_is_told():
    header = Header(rollout="web", release=3, revision="2222222222")
    assert unrecorded(header, "literal", None, None).sentence == "Nothing was judged yet."
    cause = Cause(revision="2222222222", trigger="person", reason="abort", at=recorded.BEGAN)
    found = unrecorded(header, "literal", None, cause)
    assert (found.sentence, found.picture) == ("Rolled back by person: abort.", None)


def test_what_is_missing_is_told_in_requests_and_time_with_what_comes_without_it():
    limits = Limits(error_rate="0.1%")
    spec = RolloutSpec(
        phases=(
            Phase(name="a", weight=5, duration=timedelta(minutes=10), limits=limits),
            Phase(name="b", weight=10, duration=timedelta(minutes=1), limits=limits),
        )
    )
    record = recorded.release(rps=5, walk=((5, timedelta(minutes=10)),))
    record = replace(record, header=record.header.model_copy(update={"spec": spec}))
    seen = sum(o.canary.requests for o in record.observations)
    first, then = explained(record, spec).missing
    assert first.startswith(
        "684 error-free requests are needed to exclude 0.5 % (5 times the 0.1 % allowed), "
        f"{seen} so far, about "
    )
    assert first.endswith(f" min at {seen / 590:.3g} requests/s")  # the first cell is no time yet
    assert then == ("without them it goes on after 20m if nothing is wrong, as few requests can be lost then")
    strict = Policy(statistical=Statistical(budget=0))
    *_, then = explained(record, spec.model_copy(update={"policy": strict})).missing
    assert then == "without them a person has to decide after 30m (onNoDecision: pause)"
    assert explained(recorded.release(rps=500), spec).missing == ()


def test_the_point_rule_misses_requests_and_nothing_else():
    record = recorded.release(rps=0.5, walk=((10, timedelta(seconds=50)),), seed=4)
    seen = sum(o.canary.requests for o in record.observations)
    assert 0 < seen < 10
    assert explained(record, LITERAL).missing == (
        f"{10 - seen} more requests to the canary are needed to judge it",
    )


def test_the_sentence_the_numbers_and_the_table_show_the_same_interval():
    found = explained(BAD, recorded.SPEC)
    (metric,) = [item for item in found.metrics if item.metric == "errorRate"]
    shown = explain.interval(metric.lower, metric.upper)
    assert f"(95 % interval {shown}, limit 1 %)" in found.sentence
    assert f"95 % interval {shown}" in rows(found)["canary"].meaning
    known = next(point for point in found.picture.points if point.seconds == found.after.total_seconds())
    assert (known.canary.bad, known.canary.requests) == (metric.bad, metric.n)
    assert (known.canary.lower, known.canary.upper) == (metric.lower, metric.upper)


def test_who_is_blamed_is_the_same_in_the_sentence_and_in_the_reason():
    found = explained(BAD, recorded.SPEC)
    _, _, told = found.reason.partition("; blamed: ")
    against = {(item.title, side) for item in found.metrics for side in item.blamed}
    assert against == {tuple(part.split(" against ")) for part in told.split(", ")}
    assert found.sentence.endswith(f"Blamed: {told}.")


def test_what_was_decided_then_is_what_is_shown():
    found = judged(BAD, recorded.SPEC)
    index = next(n for n, verdict in enumerate(found.verdicts) if verdict.kind is VerdictKind.ROLLBACK)
    then = found.verdicts[index]
    evidence = tuple(item.model_copy(update={"upper": 0.77}) for item in then.evidence)
    decided = then.model_copy(update={"evidence": evidence, "at": found.verdicts[-1].at})
    shown = explained(BAD, recorded.SPEC, decided=decided)
    assert "-77 %" in shown.sentence
    assert shown.at == then.at


def test_words_for_evidence_and_time():
    assert [rarity(e) for e in (100, 1855.3, 3e9)] == [
        "fewer than 1 of 100",
        "fewer than 1 of 1,800",
        "fewer than 1 of 1,000,000",
    ]
    assert spoken(timedelta(minutes=3, seconds=30)) == "3 min 30 s"
    assert spoken(timedelta(hours=2, minutes=5, seconds=9)) == "2 h 5 min"
    assert [about(s) for s in (0.2, 59, 1020, 7200, 200_000)] == ["1 s", "59 s", "17 min", "2 h", "2.3 d"]


# -- few requests -------------------------------------------------------------------------------------


def few(observation):
    """Three of seven requests fail within two looks."""
    number = (observation.t0 - recorded.BEGAN) // timedelta(seconds=10)
    bad, total = [(2, 4), (1, 3)][number]
    canary = observation.canary.model_copy(update={"requests": total, "errors": bad, "buckets": ()})
    return observation.model_copy(update={"canary": canary})


TIGHT = RolloutSpec(
    phases=(Phase(name="a", weight=10, duration=timedelta(minutes=5), limits=Limits(error_rate="0.1%")),),
    policy=Policy(statistical=Statistical(dispersion_unknown=1.0)),
)
SEEN = recorded.changed(recorded.release(walk=((10, timedelta(seconds=20)),)), few)


def test_an_interval_that_holds_the_limit_is_not_told_beside_evidence_that_excludes_it():
    found = explained(SEEN, TIGHT)
    (metric,) = found.metrics
    assert metric.lower < metric.share_limit < metric.upper
    assert "Canary failed 3 of 7 requests = 42.9 % (limit 0.1 %); " in found.sentence
    assert rows(found)["canary"].meaning == "3 of 7 failed; limit 0.1 %"
    assert explain.interval(metric.lower, metric.upper) not in explaining._metrics(found.metrics, strong=True)
    going = explained(replace(SEEN, observations=SEEN.observations[:1]), TIGHT)
    assert "95 % interval" in going.sentence


def test_evidence_says_of_which_tests_it_is():
    found = explained(SEEN, TIGHT)
    (metric,) = found.metrics
    assert metric.e == metric.e_limit > found.e
    assert f"evidence this strong ({explain.odds(found.e)}, all tests together)" in found.sentence
    assert rows(found)["evidence"].meaning.startswith("all tests together; ")
    shown = explaining._metrics(found.metrics, strong=True)
    assert "STRONGEST TEST" in shown
    assert f"{explain.odds(metric.e)}, limit" in shown
    slow = explaining._metrics(explained(SLOW, recorded.SPEC).metrics, strong=True).splitlines()
    assert ", limit" in next(line for line in slow if line.startswith("latency p95"))
    assert ", stable" in next(line for line in slow if line.startswith("over 50 ms"))


# -- slower than stable ------------------------------------------------------------------------------


def slower(observation):
    """Within the limits: 40 % of the canary's requests take 50 to 100 ms, of stable's 4 %."""
    requests = observation.canary.requests
    middle = round(0.4 * requests)
    buckets = tuple(zip(recorded.EDGES, (requests - middle, middle, 0, 0), strict=True))
    return observation.model_copy(
        update={"canary": observation.canary.model_copy(update={"buckets": buckets})}
    )


SLOW = recorded.changed(recorded.release(), slower)


def test_slower_than_stable_is_told_with_the_edge_and_both_shares():
    found = explained(SLOW, recorded.SPEC)
    assert found.kind is VerdictKind.ROLLBACK
    (metric,) = [item for item in found.metrics if item.slower is not None]
    seen = metric.slower
    mine, theirs = (
        explain.percent(share) for share in (seen.bad / seen.samples, seen.stable_bad / seen.stable_samples)
    )
    assert f"{mine} of its {seen.samples:,} requests took longer than 50 ms" in found.reason
    assert f"Canary took longer than 50 ms in {seen.bad:,} of {seen.samples:,} requests = {mine} (95 % " in (
        found.sentence
    )
    assert f"; stable in {theirs} in the same minutes" in found.sentence
    assert "limit 5 %" not in found.sentence
    assert (rows(found)["canary"].value, rows(found)["stable"].value) == (mine, theirs)
    assert rows(found)["canary"].meaning.startswith(f"{seen.bad} of {seen.samples} took longer than 50 ms; ")


def test_slower_than_stable_is_drawn_at_that_edge():
    found = explained(SLOW, recorded.SPEC)
    drawn = found.picture
    assert (drawn.metric, drawn.edge) == ("latency", 0.05)
    assert chart_terminal.title(drawn).startswith("slower than 50 ms, 95 % intervals")
    known = next(point for point in drawn.points if point.seconds == found.after.total_seconds())
    assert known.limit is None
    assert 0.2 < known.canary.lower < known.canary.observed < known.canary.upper < 0.6
    assert known.stable.upper < 0.15
    asked = explained(SLOW, recorded.SPEC, metric="latencyP95")
    assert (asked.picture.metric, asked.picture.edge) == ("latencyP95", None)
    assert asked.sentence == found.sentence


def test_the_key_that_made_worse_than_stable_decide_is_named():
    found = explained(SLOW, recorded.SPEC)
    assert "(policy.onRelativeRegression: rollback)" in found.sentence
    held = recorded.SPEC.model_copy(update={"policy": Policy(on_relative_regression="hold")})
    asked = explained(replace(SLOW, observations=SLOW.observations[:20]), held)
    assert asked.kind is VerdictKind.HOLD
    assert "(policy.onRelativeRegression: hold)" in asked.sentence
    assert "onRelativeRegression" not in explained(BAD, recorded.SPEC).sentence


def test_slower_than_stable_where_no_latency_is_limited_is_told_in_the_judges_words():
    """A later step limits it, so it is compared in this one too, and the table has no row of it."""
    first, second = recorded.SPEC.phases
    alone = first.model_copy(update={"limits": Limits(error_rate="1%")})
    found = explained(SLOW, recorded.SPEC.model_copy(update={"phases": (alone, second)}))
    assert found.kind is VerdictKind.ROLLBACK
    assert found.weight == 10
    assert "Canary is slower than stable: " in found.sentence
    assert "took longer than 50 ms" in found.sentence
    assert "Canary failed" not in found.sentence


def test_slower_than_stable_is_a_row_of_the_table():
    found = explained(SLOW, recorded.SPEC)
    shown = explaining._metrics(found.metrics, strong=True)
    (row,) = [line for line in shown.splitlines() if line.startswith("over 50 ms")]
    assert rows(found)["canary"].value in row
    assert rows(found)["stable"].value in row
    (metric,) = [item for item in found.metrics if item.slower is not None]
    assert explain.part(metric.blame_stable) in row


# -- drawing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [10, 40, 80, 120, 500])
def test_the_terminal_picture_fits(width):
    lines = chart_terminal.draw(explained(BAD, LITERAL).picture, width)
    shown = chart_terminal.plain(lines)
    body = shown.splitlines()[1:]
    assert all(len(line) <= min(max(width, 40), 160) for line in body)
    assert "canary" in shown.splitlines()[1]
    assert "1 % │" in shown
    assert "10%" in shown.splitlines()[-1]
    assert "50%" in shown.splitlines()[-1]


def test_evidence_is_drawn_where_there_is_some():
    drawn = explained(BAD, LITERAL).picture
    assert "evidence" not in chart_terminal.plain(chart_terminal.draw(drawn, 80))
    strong = drawn.model_copy(
        update={
            "threshold": 100.0,
            "points": tuple(p.model_copy(update={"e": 10 ** (n / 5)}) for n, p in enumerate(drawn.points)),
        }
    )
    shown = chart_terminal.plain(chart_terminal.draw(strong, 80))
    assert "evidence" in shown
    assert "100:1 │" in shown


def test_one_observation_is_no_picture():
    record = recorded.release(walk=((10, timedelta(seconds=10)),))
    found = explained(record, LITERAL)
    assert chart_terminal.draw(found.picture, 80) == []
    with pytest.raises(Invalid, match="nothing to draw"):
        chart_file.write(Path("x.png"), found)


def test_it_is_drawn_without_a_stable_variant():
    record = recorded.changed(BAD, lambda o: o.model_copy(update={"stable": None}))
    config = JudgeConfig.of(LITERAL)
    verdicts = [
        Verdict(kind=VerdictKind.CONTINUE, revision="2222222222", step=o.step, at=o.t1, reason="")
        for o in record.observations
    ]
    drawn = picture(config, record.observations, verdicts, "errorRate")
    assert {point.stable for point in drawn.points} == {None}
    assert "│" in chart_terminal.plain(chart_terminal.draw(drawn, 80))


def test_files_are_pictures_and_the_same_again(tmp_path):
    found = explained(BAD, LITERAL)
    png, svg, again = tmp_path / "a.png", tmp_path / "a.svg", tmp_path / "b.svg"
    for path in (png, svg, again):
        chart_file.write(path, found)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert ET.parse(svg).getroot().tag.endswith("svg")
    assert svg.read_bytes() == again.read_bytes()


def test_a_picture_that_cannot_be_is_refused(tmp_path, monkeypatch):
    found = explained(BAD, LITERAL)
    with pytest.raises(Invalid, match=r"neither \.png nor \.svg"):
        chart_file.check(tmp_path / "a.pdf")
    with pytest.raises(Invalid, match="cannot be written: no such file or directory"):
        chart_file.write(tmp_path / "no" / "a.png", found)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Invalid) as raised:
        chart_file.check(tmp_path / "a.png")
    assert "pip install 'phoenix-orchestrator[charts]'" in raised.value.remedy


def test_nothing_is_missing_of_a_release_that_has_ended():
    record = recorded.release(rps=1, walk=((10, timedelta(minutes=4)),))
    on_its_way = explained(record, recorded.SPEC)
    assert on_its_way.kind is VerdictKind.EXTEND
    assert on_its_way.missing
    assert "are over, but" not in on_its_way.sentence  # it is told under what is missing
    cause = Cause(revision="2222222222", trigger="person", reason="aborted: me", at=recorded.BEGAN, weight=10)
    found = explained(record, recorded.SPEC, cause=cause)
    assert found.missing == ()
    assert "goes on" not in found.sentence

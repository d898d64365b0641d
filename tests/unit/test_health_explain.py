"""Verdicts in words and in a table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from phoenix_orch.health_validator.explain import (
    Row,
    length,
    part,
    percent,
    rows,
    seconds,
    sentence,
    shown,
    size,
)
from phoenix_orch.health_validator.observation import Bound, MetricEvidence, Verdict, VerdictKind


def test_a_verdict_in_one_sentence_and_a_table() -> None:
    verdict = Verdict(
        kind=VerdictKind.ROLLBACK,
        revision="3f2a9c01de",
        step=0,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        reason="canary answered 37 of 512 requests with 5xx = 7.23 %, limit 0.1 %",
        evidence=(
            MetricEvidence(metric="latencyP95", observed=0.0642, limit=0.1, stable=0.06, samples=1512),
            MetricEvidence(
                metric="errorRate",
                observed=37 / 512,
                limit=0.001,
                stable=0.0,
                samples=512,
                breached=True,
                window=timedelta(minutes=1),
            ),
            MetricEvidence(metric="business/orders", observed=None, limit=0.02, at_least=True),
        ),
    )
    assert sentence(verdict) == (
        "3f2a9c01de has to be taken back: canary answered 37 of 512 requests with 5xx = 7.23 %, limit 0.1 %."
    )
    assert rows(verdict) == (
        Row("error rate", "7.23 %", "at most 0.1 %", "0 %", "512", "1m", breached=True),
        Row("latency p95", "64.2 ms", "at most 100 ms", "60 ms", "1,512", "0s", breached=False),
        Row("orders per request", "-", "at least 0.02", "-", "-", "0s", breached=False),
    )


@pytest.mark.parametrize("kind", list(VerdictKind))
def test_every_kind_has_its_words(kind: VerdictKind) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert sentence(Verdict(kind=kind, revision="r", step=0, at=at, reason="why")).endswith(": why.")


def test_numbers_with_units() -> None:
    assert [percent(share) for share in (0, 0.0001, 0.0723, 0.5, 1)] == [
        "0 %",
        "0.01 %",
        "7.23 %",
        "50 %",
        "100 %",
    ]
    assert [seconds(value) for value in (0.0005, 0.182, 0.9996, 1.234)] == [
        "0.5 ms",
        "182 ms",
        "1 s",
        "1.23 s",
    ]
    assert [size(value) for value in (12, 2048, 612 * 1024**2, 3 * 1024**3)] == [
        "12 B",
        "2 KiB",
        "612 MiB",
        "3 GiB",
    ]
    assert shown("cpu", 0.834) == "83.4 %"
    assert shown("memory", 1024) == "1 KiB"
    assert length(timedelta(seconds=61.4)) == "1m1s"
    assert length(timedelta(seconds=0.52)) == "500ms"


def test_no_share_is_told_with_an_exponent() -> None:
    assert [percent(share) for share in (1.11e-34, 1e-6, 5e-5)] == ["<0.0001 %", "0.0001 %", "0.005 %"]
    assert [part(share) for share in (0.0, 1.11e-34, 5e-5, 0.996)] == ["0 %", "<0.01 %", "<0.01 %", "99.6 %"]


def test_a_bound_is_told_as_one() -> None:
    assert shown("latencyP95", 0.025, Bound.AT_MOST) == "≤ 25 ms"
    assert shown("latencyP95", 0.8, Bound.AT_LEAST) == "≥ 800 ms"
    evidence = MetricEvidence(
        metric="latencyP95",
        observed=0.025,
        bound=Bound.AT_MOST,
        limit=0.1,
        stable=0.8,
        stable_bound=Bound.AT_LEAST,
    )
    at = datetime(2026, 1, 1, tzinfo=UTC)
    verdict = Verdict(kind=VerdictKind.CONTINUE, revision="r", step=0, at=at, reason="", evidence=(evidence,))
    (row,) = rows(verdict)
    assert (row.observed, row.stable) == ("≤ 25 ms", "≥ 800 ms")

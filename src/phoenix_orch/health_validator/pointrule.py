"""What a point rule would say of the same observations: the counterfactual of every verdict. Pure.

The rule of most tools: over one rolling window, an observed value beyond its limit is a rollback. It does
not ask how few requests the value stands on beyond `minRequests`, nor how stable fares.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.books import LOW, NO_POINT, Books, N, Recent, T, X
from phoenix_orch.health_validator.observation import Counterfactual, VerdictKind
from phoenix_orch.health_validator.rules import QUANTILES, Rules

Point = tuple[int, str, int, int]

_CONTINUE = VerdictKind.CONTINUE
"""What most looks say, looked up once."""


def look(rules: Rules, point: Point, recent: Recent, now: int) -> Point:
    """The first breach: the one known already, or one in the window that ends `now` (milliseconds)."""
    canary = recent.canary
    if point[0] or canary[N] < rules.min_requests:
        return point
    if rules.error_limit is not None and canary[X] > rules.error_limit * canary[N]:
        return now, "errorRate", canary[X], canary[N]
    if canary[T] < rules.min_requests:
        return point
    for place, limit in enumerate(rules.latency_limits):
        metric, share = QUANTILES[place]
        slow = canary[LOW + 2 * place]
        if limit is not None and slow > share * canary[T] * (1 + 1e-12):
            return now, metric, slow, canary[T]
    return point


def counterfactual(rules: Rules, books: Books, *, requests: int, over: bool) -> Counterfactual:
    """In words, for a verdict. `requests` of the canary in this step; `over`: the step's time has passed."""
    window = rules.window_ms
    if books.point != NO_POINT:
        at, metric, bad, total = books.point
        return _rolled_back(window, at - books.anchor, at, metric, bad, total)
    if not over:
        return _goes_on(window, _CONTINUE)
    enough = requests >= rules.min_requests
    return _goes_on(window, VerdictKind.ADVANCE if enough else VerdictKind.EXTEND)


@lru_cache(maxsize=256)
def _goes_on(window: int, kind: VerdictKind) -> Counterfactual:
    words = {
        VerdictKind.CONTINUE: "would have gone on",
        VerdictKind.ADVANCE: "would have advanced",
        VerdictKind.EXTEND: "would have waited for more requests",
    }
    return Counterfactual(kind=kind, sentence=f"a {_rule(window)} {words[kind]}")


@lru_cache(maxsize=128)
def _rolled_back(window: int, after: int, at: int, *found: str | int) -> Counterfactual:
    metric, bad, total = str(found[0]), int(found[1]), int(found[2])
    what = "failed" if metric == "errorRate" else f"were slower than the limit of {explain.title(metric)}"
    sentence = (
        f"a {_rule(window)} would have rolled back after {_length(after)}: "
        f"{explain.number(bad)} of {explain.number(total)} requests {what}"
    )
    moment = datetime.fromtimestamp(at / 1000, UTC)
    return Counterfactual(kind=VerdictKind.ROLLBACK, at=moment, sentence=sentence)


def _rule(window: int) -> str:
    return f"{'one-minute' if window == 60_000 else _length(window)} point rule"


def _length(ms: int) -> str:
    return explain.length(timedelta(milliseconds=ms))

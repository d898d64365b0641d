"""Which backups are kept. Pure, and the same for the same history however often it is asked.

As restic does it, in UTC: going from the newest to the oldest, each rule takes one copy of each hour, day or
ISO week that has any, until its count is used up; hours without a copy use up nothing. A copy stays when any
rule takes it. The oldest copy stays for a rule that has counts left, so that a young history is not cut.

Beside restic: of an hour, day or week that has verified copies one of them is taken, the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from phoenix_orch.kernel.text import counted

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOST_SKEW = timedelta(minutes=5)
"""Between our clock and the storage's; with more nothing is removed."""
GRACE = timedelta(hours=24)
"""From the tombstone of a backup to its end: whoever looks more often sees the tombstone first."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How many copies each rule takes."""

    hourly: int = 24
    daily: int = 7
    weekly: int = 4
    last: int = 8
    """The newest so many, whatever their hour."""

    @property
    def empty(self) -> bool:
        return not (self.hourly or self.daily or self.weekly or self.last)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backup, as far as retention looks at it."""

    id: str
    at: datetime
    """UTC."""
    good: bool = True
    """Verified, and not much smaller than it should be."""
    pinned: str = ""
    """Why a person wants it kept; empty: nobody does."""
    locked_until: datetime | None = None
    """Until then the storage refuses to remove it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one backup, and why."""

    id: str
    at: datetime
    keep: bool
    reasons: tuple[str, ...]
    guards: tuple[str, ...] = field(default=())
    """Reasons of those that no rule stands for."""


@dataclass(slots=True)
class _Rule:
    name: str
    unit: Callable[[datetime], str]
    """Which hour, day or week, for people."""
    bucket: Callable[[int], int]
    """The same as a number, of seconds since 1970."""
    count: int


def _rules(policy: Policy) -> list[_Rule]:
    return [
        _Rule("hourly", lambda at: f"{at:%Y-%m-%d %H}h", lambda seconds: seconds // 3600, policy.hourly),
        _Rule("daily", lambda at: f"{at:%Y-%m-%d}", lambda seconds: seconds // 86_400, policy.daily),
        # 1970 began on a Thursday: three days more, and weeks begin on Mondays as ISO 8601 has it.
        _Rule(
            "weekly",
            lambda at: f"{at:%G-W%V}",
            lambda seconds: (seconds // 86_400 + 3) // 7,
            policy.weekly,
        ),
    ]


def retain(
    policy: Policy, backups: Iterable[Candidate], now: datetime, *, guards: bool = True, oldest: bool = True
) -> list[Decision]:
    """A decision for each backup of one scope, the newest first.

    With `guards`: the newest good copy stays, one of good copies stands for each hour, day and week that has
    any, what is pinned or locked stays. `oldest`: the rule for the oldest copy; restic has it since 0.16.
    A policy that takes nothing keeps everything.
    """
    ordered = sorted(backups, key=lambda one: (one.at, one.id), reverse=True)
    if policy.empty:
        return [Decision(one.id, one.at, True, ("the policy keeps everything",)) for one in ordered]
    reasons: dict[str, list[str]] = {one.id: [] for one in ordered}
    for number, one in enumerate(ordered[: policy.last], start=1):
        reasons[one.id].append(f"one of the last {policy.last} ({number} of {policy.last})")
    seconds = [(one.at - _EPOCH) // timedelta(seconds=1) for one in ordered]
    for rule in _rules(policy):
        _apply(rule, ordered, seconds, reasons, good_first=guards, oldest=oldest)
    guarded = _guards(ordered, now) if guards else {}
    return [_decided(one, reasons[one.id], guarded.get(one.id, ())) for one in ordered]


def _apply(
    rule: _Rule,
    ordered: Sequence[Candidate],
    seconds: Sequence[int],
    reasons: dict[str, list[str]],
    *,
    good_first: bool,
    oldest: bool,
) -> None:
    taken, last, place, end = 0, None, 0, len(ordered)
    while place < end and taken < rule.count:
        bucket, chosen = rule.bucket(seconds[place]), place
        if bucket != last:
            if good_first:
                chosen = _first_good(rule, ordered, seconds, place)
            taken, last = taken + 1, bucket
            one = ordered[chosen]
            reasons[one.id].append(f"{rule.name} {rule.unit(one.at)} ({taken} of {rule.count})")
        place += 1
    if oldest and end and taken < rule.count:
        one = ordered[-1]
        if not any(reason.startswith(f"{rule.name} ") for reason in reasons[one.id]):
            reasons[one.id].append(f"oldest, for {rule.name} ({taken + 1} of {rule.count})")


def _first_good(rule: _Rule, ordered: Sequence[Candidate], seconds: Sequence[int], place: int) -> int:
    """The newest good copy of the bucket that begins here, else its newest."""
    bucket, at = rule.bucket(seconds[place]), place
    while at < len(ordered) and rule.bucket(seconds[at]) == bucket:
        if ordered[at].good:
            return at
        at += 1
    return place


def _guards(ordered: Sequence[Candidate], now: datetime) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    newest = next((one for one in ordered if one.good), None)
    if newest is not None:
        found.setdefault(newest.id, []).append("the newest verified copy")
    for one in ordered:
        if one.pinned:
            found.setdefault(one.id, []).append(f"pinned: {one.pinned}")
        if one.locked_until is not None and one.locked_until > now:
            found.setdefault(one.id, []).append(
                f"locked by the storage until {one.locked_until:%Y-%m-%d %H:%M}"
            )
        if one.at > now + MOST_SKEW:
            found.setdefault(one.id, []).append("it is of the future")
    return {id_: tuple(texts) for id_, texts in found.items()}


def _decided(one: Candidate, reasons: Sequence[str], guards: tuple[str, ...]) -> Decision:
    if reasons or guards:
        return Decision(one.id, one.at, True, (*reasons, *guards), () if reasons else guards)
    return Decision(one.id, one.at, False, ("no rule takes it",))


def tier(one: Decision) -> str:
    """The first rule that keeps a copy: `last`, `hourly`, `daily`, `weekly`; `guarded` where none does and it
    stays, `leaving` where it goes."""
    if not one.keep:
        return "leaving"
    if one.guards:
        return "guarded"
    for name in ("hourly", "daily", "weekly"):
        if one.reasons[0].startswith((f"{name} ", f"oldest, for {name}")):
            return name
    return "last"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one run may remove: the larger of the two."""

    deletions: int = 10
    share: float = 0.25


def stopped(
    decisions: Sequence[Decision],
    limits: Limits,
    now: datetime,
    storage_now: datetime,
    *,
    unsure: str = "",
    faults: int = 0,
) -> str:
    """Why nothing may be removed now; empty where it may.

    `storage_now`: by the clock of the storage. `unsure`: why the newest copy is not trusted. `faults`: of the
    catalog.
    """
    skew = abs(now - storage_now)
    if skew > MOST_SKEW:
        return f"the clocks of this machine and the storage are {skew.total_seconds():.0f} s apart"
    future = [one for one in decisions if one.at > now + MOST_SKEW]
    if future:
        return (
            f"{counted(len(future), 'backup')} of the future, {future[0].id} of {future[0].at:%Y-%m-%d %H:%M}"
        )
    if faults:
        return f"the catalog has {counted(faults, 'fault')}; `phoenix backup list` tells which"
    if unsure:
        return unsure
    gone = sum(1 for one in decisions if not one.keep)
    most = max(limits.deletions, int(len(decisions) * limits.share))
    if gone > most:
        return f"{gone} of {len(decisions)} backups would go, and one run may remove {most}"
    return ""

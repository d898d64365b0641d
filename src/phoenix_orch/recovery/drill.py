"""Rehearse recovery, and say how it went: the daily check, the weekly rehearsal, the monthly full test.

    daily     freshness → present (all) → verify (the newest of each component)
    weekly    locate → of each tier a copy drawn by lot: download → decrypt → load | configuration | volume
    monthly   locate → download → decrypt → load → replicate | configuration | volume → health

A step that fails ends its component, and the others go on: the report tells everything that is wrong at once.
Nothing is taken from this machine but the keys that are given: an empty place is recovered from the bucket.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path

from phoenix_orch.kernel.errors import PhoenixError, Terminal
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.kernel.text import counted
from phoenix_orch.recovery import drill_config, drill_redis, drill_snapshot, drill_volume
from phoenix_orch.recovery.catalog import Backup, Catalog, View
from phoenix_orch.recovery.consistency_spec import FileCheck
from phoenix_orch.recovery.drill_copy import Fetched, fetched
from phoenix_orch.recovery.drill_plan import Candidate, draw
from phoenix_orch.recovery.drill_report import Kind, Phase, Report, Rpo, against, sealed
from phoenix_orch.recovery.drill_steps import Ledger, StepFailedError, Subject
from phoenix_orch.recovery.freshness import Copy, Found, History, Problem, longest_gap, problems
from phoenix_orch.recovery.keys import Identity
from phoenix_orch.recovery.layout import Scope
from phoenix_orch.recovery.manifest import Verification
from phoenix_orch.recovery.objects import ObjectStore
from phoenix_orch.recovery.signing import Trust
from phoenix_orch.runtime.scratch import scratch

_MATTERS = frozenset(Problem) - {Problem.MISSED, Problem.PAUSED, Problem.FUTURE}
"""What stands in the way of a recovery; the others are for the daily check."""
FILES = frozenset({"volume", "copy"})
"""Components whose copies are archives of files."""
_TOOLS = ("pyrage", "zstandard", "dulwich")

Health = Callable[[], str]
"""Whether something that was recovered works, in a line. Raises PhoenixError."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A component that has to be recoverable."""

    component: str
    every: timedelta
    """How often it is backed up."""
    rpo: timedelta
    """How old its recovered state may be."""
    checks: tuple[FileCheck, ...] = ()
    """What has to hold for the files of a volume."""
    paused: datetime | None = None
    """Since when its schedule is paused."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where backups are, and by which keys they are believed and opened."""

    store: ObjectStore
    trust: Trust
    identities: Sequence[Identity]
    cluster: str
    namespace: str


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which a drill is done."""

    expected: Sequence[Expected]
    rto: timedelta
    by: str
    now: Callable[[], datetime]
    scratch: Path | None = None
    """Where copies are restored; None: the temporary directory of this machine."""
    told: Callable[[str], None] = lambda _: None
    stop: Callable[[], bool] = lambda: False
    attempt: drill_config.Try = lambda _path, _content: None
    """Tries a file of the configuration, without putting it anywhere."""
    accept: drill_config.Accept | None = None
    """Asks a cluster whether it would take the configuration."""
    servers: Sequence[Path] = ()
    """Programs for copies of Redis that the package's Valkey does not read."""
    rehearse: drill_snapshot.Rehearse | None = None
    """Restores snapshots of a cluster into scratch claims; None: no cluster is reached from here."""


@dataclass(slots=True)
class _Run:
    kind: Kind
    started: datetime
    ledger: Ledger
    seed: str = ""
    rpo: list[Rpo] = field(default_factory=list)


class Drill:
    """Drills on one bucket. Everything blocks."""

    def __init__(self, bucket: Bucket, terms: Terms) -> None:
        self._bucket = bucket
        self._terms = terms

    # -- the three ---------------------------------------------------------------------------------------

    def daily(self, look: Callable[[Backup], Verification]) -> Report:
        """`look` opens a backup and records what it saw. Raises Stopped."""
        run = self._begun(Kind.DAILY)
        for expected in self._terms.expected:
            with contextlib.suppress(StepFailedError):
                self._checked(run, expected, look)
        return self._ended(run)

    def weekly(self, seed: str) -> Report:
        """Raises Stopped."""
        run = self._begun(Kind.WEEKLY)
        run.seed = seed
        with self._scratch() as scratch:
            for expected in self._terms.expected:
                with contextlib.suppress(StepFailedError):
                    self._sampled(run, expected, scratch)
        return self._ended(run)

    def monthly(self) -> Report:
        """Raises Stopped."""
        run = self._begun(Kind.MONTHLY)
        with self._scratch() as scratch, contextlib.ExitStack() as recovered:
            healths: dict[str, Health] = {}
            for expected in self._terms.expected:
                with contextlib.suppress(StepFailedError):
                    healths[expected.component] = self._recovered(run, expected, scratch, recovered)
            if healths and len(healths) == len(self._terms.expected):
                with contextlib.suppress(StepFailedError):
                    self._healthy(run, healths)
        return self._ended(run)

    # -- their parts -------------------------------------------------------------------------------------

    def _checked(self, run: _Run, expected: Expected, look: Callable[[Backup], Verification]) -> None:
        subject = Subject(expected.component)
        with run.ledger.step(Phase.FRESHNESS, subject) as note:
            view = self._seen(run, expected)
            _hold(self._problems(run, view, expected))
            note.detail = f"{counted(len(view.live), 'backup')}, the newest when it should be"
        with run.ledger.step(Phase.PRESENT, subject) as note:
            for backup in view.live:
                size = self._bucket.store.stat(backup.manifest.stream.key).size
                if size != backup.manifest.stream.stored_bytes:
                    raise Terminal(f"the data of {backup.id} is cut")
            note.detail = f"the data of {counted(len(view.live), 'backup')} is there"
        newest = view.newest or view.live[0]
        with run.ledger.step(Phase.VERIFY, Subject(expected.component, newest.id)) as note:
            seen = look(newest)
            note.bytes = seen.bytes
            if not seen.passed:
                raise Terminal(seen.detail)
            note.detail = f"level {seen.level.value}: {seen.detail}"

    def _sampled(self, run: _Run, expected: Expected, scratch: Path) -> None:
        with run.ledger.step(Phase.LOCATE, Subject(expected.component)) as note:
            view = self._seen(run, expected)
            known = {one.id: one for one in view.live}
            drawn = draw([Candidate(one.id, one.at) for one in view.live], run.started, run.seed)
            if not drawn:
                raise Terminal("there is no backup", remedy="`phoenix backup run` takes one")
            note.detail = f"{len(drawn)} of {counted(len(known), 'backup')} drawn"
        for one in drawn:
            subject = Subject(expected.component, one.id, one.tier.value)
            with (
                contextlib.suppress(StepFailedError),
                self._fetched(run, known[one.id], subject, scratch) as copy,
            ):
                self._rehearsed(run, copy, expected, scratch / one.id)

    def _rehearsed(self, run: _Run, copy: Fetched, expected: Expected, into: Path) -> None:
        kind = _kind(expected.component)
        if kind == "redis":
            with drill_redis.loaded(run.ledger, copy, self._terms.servers):
                pass
        elif kind == "config":
            drill_config.rehearsed(run.ledger, copy, into, self._terms.attempt, self._terms.accept)
        elif drill_snapshot.is_snapshot(copy.manifest):
            drill_snapshot.rehearsed(run.ledger, copy, self._terms.rehearse)
        elif kind in FILES:
            drill_volume.rehearsed(run.ledger, copy, into, expected.checks, run.started)

    def _recovered(
        self, run: _Run, expected: Expected, scratch: Path, recovered: contextlib.ExitStack
    ) -> Health:
        """Recover the newest copy; how to see that it works."""
        backup = self._located(run, expected)
        subject = Subject(expected.component, backup.id)
        into = scratch / backup.id
        kind = _kind(expected.component)
        with self._fetched(run, backup, subject, scratch) as copy:
            if kind == "redis":
                loading = drill_redis.loaded(run.ledger, copy, self._terms.servers)
                server = recovered.enter_context(loading)
                server = drill_redis.replicated(run.ledger, copy, server)
                return lambda: drill_redis.healthy(server)
            if kind == "config":
                drill_config.rehearsed(run.ledger, copy, into, self._terms.attempt, self._terms.accept)
                return lambda: drill_config.healthy(into)
            if drill_snapshot.is_snapshot(copy.manifest):
                drill_snapshot.rehearsed(run.ledger, copy, self._terms.rehearse)
                return lambda: "was looked at in a claim of its own"
            if kind in FILES:
                drill_volume.rehearsed(run.ledger, copy, into, expected.checks, run.started)
                return lambda: drill_volume.healthy(into, expected.checks)
        return lambda: "opened"

    def _located(self, run: _Run, expected: Expected) -> Backup:
        with run.ledger.step(Phase.LOCATE, Subject(expected.component)) as note:
            view = self._seen(run, expected)
            _hold([one for one in self._problems(run, view, expected) if one.problem in _MATTERS])
            newest = view.newest or view.live[0]
            if not newest.good:
                raise Terminal(f"the newest backup, {newest.id}, is not verified", remedy="verify it")
            note.detail = f"{newest.id}, one of {len(view.live)}"
        return newest

    def _healthy(self, run: _Run, healths: Mapping[str, Health]) -> None:
        with run.ledger.step(Phase.HEALTH, Subject()) as note:
            said = [f"{component} {health()}" for component, health in healths.items()]
            note.detail = "; ".join(said)

    # -- what they have in common ------------------------------------------------------------------------

    def _begun(self, kind: Kind) -> _Run:
        return _Run(kind, self._terms.now(), Ledger(self._terms.told, self._terms.stop))

    def _seen(self, run: _Run, expected: Expected) -> View:
        """The catalog of the bucket, with nothing that this machine knows; and the RPO of the component."""
        bucket = self._bucket
        try:
            view = Catalog(bucket.store, bucket.trust, now=self._terms.now).read(
                Scope(bucket.cluster, bucket.namespace, expected.component)
            )
        except PhoenixError:
            run.rpo.append(Rpo(component=expected.component, target=expected.rpo.total_seconds()))
            raise
        good = view.newest_good
        gap = longest_gap(_copies(view), run.started)
        run.rpo.append(
            Rpo(
                component=expected.component,
                achieved=None if good is None else _seconds(run.started - _point(good)),
                longest=None if gap is None else _seconds(gap),
                target=expected.rpo.total_seconds(),
            )
        )
        return view

    def _problems(self, run: _Run, view: View, expected: Expected) -> list[Found]:
        history = History(
            expected.component, _copies(view), [one.message for one in view.faults], expected.paused
        )
        return problems(history, expected.every, run.started)

    @contextlib.contextmanager
    def _fetched(self, run: _Run, backup: Backup, subject: Subject, scratch: Path) -> Iterator[Fetched]:
        file = scratch / f"{backup.id}.age"
        copy = Fetched(backup.manifest, subject, file, self._bucket.identities)
        with fetched(run.ledger, self._bucket.store, copy):
            yield copy

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        """An empty folder for this user alone, gone afterwards, as are those of drills that were killed.
        Raises Terminal."""
        with contextlib.ExitStack() as stack:
            try:
                folder = stack.enter_context(scratch("phoenix-drill-", self._terms.scratch))
            except OSError as error:
                raise Terminal(
                    f"there is no scratch folder for the drill: {error.strerror or error}",
                    remedy="name one with --scratch, on a disk with room for the data",
                ) from None
            yield folder

    def _ended(self, run: _Run) -> Report:
        steps, terms = run.ledger.steps, self._terms
        rto = round(sum(step.seconds for step in steps), 3)
        target = terms.rto.total_seconds() if run.kind is Kind.MONTHLY else None
        reasons = against(steps, run.rpo, rto, target)
        return sealed(
            Report(
                id=sortable_id(run.started),
                kind=run.kind,
                cluster=self._bucket.cluster,
                namespace=self._bucket.namespace,
                started=run.started,
                ended=terms.now(),
                by=terms.by,
                host=platform.node(),
                phoenix=version("phoenix-orchestrator"),
                seed=run.seed,
                steps=tuple(steps),
                rpo=tuple(run.rpo),
                rto=rto,
                rto_target=target,
                tools={**{name: version(name) for name in _TOOLS}, **run.ledger.tools},
                reasons=tuple(reasons),
                passed=not reasons,
            )
        )


def _copies(view: View) -> list[Copy]:
    return [
        Copy(
            one.id,
            one.at,
            _point(one),
            good=one.good and not one.before_restore,
            lost=_lost(one),
            shrunk=one.shrunk,
            failure=one.failed.detail if one.failed is not None else "",
            future=one.future,
        )
        for one in view.live
    ]


def _point(backup: Backup) -> datetime:
    return backup.manifest.time.consistency_point


def _lost(backup: Backup) -> str:
    if backup.present:
        return ""
    if backup.data is None:
        return "is gone"
    return f"is cut: {backup.data.size:,} bytes of {backup.manifest.stream.stored_bytes:,}"


def _hold(found: Sequence[Found]) -> None:
    """Raises Terminal with everything that was found."""
    if found:
        raise Terminal(
            "; ".join(f"{one.problem.value}: {one.detail}" for one in found), remedy="`phoenix backup list`"
        )


def _kind(component: str) -> str:
    return component.partition("/")[0]


def _seconds(length: timedelta) -> float:
    return round(length.total_seconds(), 3)

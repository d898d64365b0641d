"""Drills of one Phoenix, put together from its configuration. They need no API and no running Phoenix."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from phoenix_orch.kernel.errors import Invalid, PhoenixError, Terminal
from phoenix_orch.observability.drills import DrillFigures
from phoenix_orch.orchestrator.backups import Backups, member_of
from phoenix_orch.orchestrator.kept_config import read_kept
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery import drill_record, drill_report, keys
from phoenix_orch.recovery.catalog import Backup
from phoenix_orch.recovery.cluster_spec import ClusterBackupSpec
from phoenix_orch.recovery.drill import Bucket, Drill, Expected, Terms
from phoenix_orch.recovery.drill_plan import Candidate, draw
from phoenix_orch.recovery.drill_report import Kind, Report
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.freshness import LATE
from phoenix_orch.recovery.keys import Identity
from phoenix_orch.recovery.manifest import Level, Verification
from phoenix_orch.recovery.sources import copied, files_configured
from phoenix_orch.recovery.verifying import record_look

_NONE = "there is no backup"
MANY = 60
"""Reports that are read for a trend, for figures and for a list."""


class DrillFailedError(Terminal):
    """Recovery would not work now, or not well enough."""

    code: ClassVar[str] = "drill_failed"


@dataclass(frozen=True, slots=True)
class Asked:
    """One drill that is to be done."""

    kind: Kind
    seed: str = ""
    """By which copies are drawn; empty: one of the moment."""
    identity: Path | None = None
    """The offline key of a monthly drill; None: as it is configured."""
    scratch: Path | None = None
    paused: Mapping[str, datetime] = field(default_factory=dict)
    """Since when the schedule of a component is paused, of those whose is."""
    told: Callable[[str], None] = lambda _: None
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """One copy that a drill would look at; empty: there is none, which fails the drill."""

    component: str
    backup: str = ""
    tier: str = ""
    problem: str = ""
    """Why it would fail here, as far as that is known before."""


@dataclass(frozen=True, slots=True)
class Planned:
    seed: str
    """Of a weekly drill: with it the same copies are drawn."""
    copies: tuple[Rehearsal, ...]


class Drills:
    """What can be rehearsed here. Everything blocks."""

    def __init__(self, backups: Backups, layout: Layout, *, by: str) -> None:
        self.backups = backups
        self._layout = layout
        self._by = by
        self._spec = backups.spec.drills

    def run(self, asked: Asked) -> Report:
        """Do it and keep its report. Raises Invalid where the offline key is missing, Stopped, and what the
        storage raises when the report cannot be kept."""
        backups = self.backups
        backups.marks.use()
        identities = self._offline(asked) if asked.kind is Kind.MONTHLY else backups.identities
        bucket = Bucket(
            backups.store, backups.trust, identities, backups.home.cluster, backups.home.namespace
        )
        drill = Drill(
            bucket,
            Terms(
                expected=[
                    replace(one, paused=_paused(one.component, asked.paused)) for one in self.expected()
                ],
                rto=self._spec.rto,
                by=self._by,
                now=_now,
                scratch=asked.scratch,
                told=asked.told,
                stop=asked.stop,
                attempt=self._attempt,
                rehearse=backups.home.volumes.rehearse if backups.home.volumes is not None else None,
                accept=backups.home.accept,
                servers=backups.rehearsal_servers,
            ),
        )
        if asked.kind is Kind.DAILY:
            report = drill.daily(backups.verify)
        elif asked.kind is Kind.WEEKLY:
            report = drill.weekly(asked.seed or secrets.token_hex(8))
        else:
            report = drill.monthly()
        drill_record.put(backups.store, report, backups.signer)
        self._seen_to_load(report)
        drill_record.expire(backups.store, self._spec.keep, report.ended)
        return report

    def planned(self, asked: Asked) -> Planned:
        """What `run` would do, without doing any of it. Raises Invalid where the offline key is missing."""
        if asked.kind is Kind.MONTHLY:
            self._offline(asked)
        seed = (asked.seed or secrets.token_hex(8)) if asked.kind is Kind.WEEKLY else ""
        views = {view.scope.component: view for view in self.backups.views()}
        found = []
        for one in self.expected():
            view = views.get(one.component)
            live = view.live if view is not None else ()
            if asked.kind is Kind.WEEKLY:
                known = {backup.id: backup for backup in live}
                drawn = draw([Candidate(backup.id, backup.at) for backup in live], _now(), seed)
                found += [self._rehearsal(one.component, known[each.id], each.tier.value) for each in drawn]
                found += [] if drawn else [Rehearsal(one.component, problem=_NONE)]
                continue
            newest = (view.newest if view is not None else None) or next(iter(live), None)
            if newest is None:
                found.append(Rehearsal(one.component, problem=_NONE))
            elif asked.kind is Kind.DAILY:
                found.append(Rehearsal(one.component, newest.id))
            else:
                found.append(self._rehearsal(one.component, newest))
        return Planned(seed, tuple(found))

    def _rehearsal(self, component: str, backup: Backup, tier: str = "") -> Rehearsal:
        """Of a copy that would be loaded."""
        problem = ""
        if component.startswith("redis"):
            from phoenix_orch.recovery.server_program import unrehearsable  # noqa: PLC0415

            problem = unrehearsable(backup.manifest, self.backups.rehearsal_servers)
        return Rehearsal(component, backup.id, tier, problem)

    def expected(self) -> Sequence[Expected]:
        """What has to be recoverable: all that is backed up here. Where nothing is, all that the storage has:
        then this machine stands in for one that was lost."""
        backups = self.backups
        stored = [view.scope.component for view in backups.views() if view.live]
        here = set(backups.sources())
        shards = {name for name in stored if name.rpartition(".shard")[0] in here or member_of(name, [*here])}
        parted = {name.rpartition(".shard")[0] or name.partition(".")[0] for name in shards}
        return [self._expected(name) for name in sorted((here - parted) | shards or stored)]

    def reports(self, limit: int = MANY) -> tuple[list[Report], list[str]]:
        """The newest so many, newest first; and what is wrong with others."""
        return drill_record.reports(self.backups.store, self.backups.trust, limit)

    def one(self, word: str = drill_record.LATEST) -> Report:
        """By id, the beginning of one, or `latest`. Raises NotFound, Invalid, Tampered."""
        return drill_record.one(self.backups.store, self.backups.trust, word)

    # -- parts ---------------------------------------------------------------------------------------

    def _seen_to_load(self, report: Report) -> None:
        """Put beside each backup how far it got. That one did not, or that this cannot be recorded, says
        nothing for certain against it: it may lie at this machine, and the report has it."""
        served, steps = drill_report.recovered(report)
        known = [one for view in self.backups.views() for one in view.live] if steps else []
        for backup in known:
            step = steps.get(backup.id)
            if step is None:
                continue
            look = Verification(
                backup=backup.id,
                manifest=backup.sha256,
                level=Level.SERVED if served else Level.LOADED,
                passed=True,
                at=report.ended,
                by=self._by,
                detail=f"drill {report.id}: {step.detail}",
                seconds=step.seconds,
                bytes=step.bytes,
                tools=report.tools,
            )
            with contextlib.suppress(PhoenixError):
                record_look(self.backups.store, backup.manifest.scope, look, self.backups.signer)

    def _expected(self, component: str) -> Expected:
        every = self.backups.spec.schedule.of(component)
        kind, _, name = component.partition("/")
        volume = self.backups.spec.volumes.get(name) if kind == files_configured.KIND else None
        checks = volume.checks if volume is not None else ()
        if kind == copied.KIND and isinstance(self.backups.spec, ClusterBackupSpec):
            claim = self.backups.spec.claims.get(name.partition(".")[0])
            checks = claim.checks if claim is not None else ()
        return Expected(component, every, self._spec.rpo or every * LATE, checks=checks)

    def _offline(self, asked: Asked) -> Sequence[Identity]:
        """The offline key alone: with another one nothing would be shown. Raises Invalid."""
        file = asked.identity
        if file is None and self._spec.offline_identity_file is not None:
            file = Path(self._spec.offline_identity_file)
        if file is None:
            raise Invalid(
                "the monthly drill opens backups with the offline key, and none is named",
                remedy="phoenix drill run monthly --identity FILE; or name it as "
                "backup.drills.offlineIdentityFile",
            )
        found = keys.read(file)
        online = {one.text for one in self.backups.recipients if not one.offline}
        if any(one.public in online for one in found):
            raise Invalid(
                f"{file} holds an online key: the drill is to show that the offline one opens backups",
                remedy="name the file that `phoenix keys init` wrote with --recovery-file",
            )
        return found

    def _attempt(self, path: str, content: bytes) -> None:
        """A configuration that was applied has to be one that this Phoenix takes. Raises Corrupted."""
        if path.rpartition("/")[2] != f"{self._layout.config.name}.sops":
            return
        with tempfile.TemporaryDirectory(prefix="phoenix-drill-") as folder:
            file = Path(folder) / self._layout.config.name
            file.write_bytes(content)
            if read_kept(file) is None:
                raise Corrupted(f"{path} is no configuration that this Phoenix takes")


def _paused(component: str, paused: Mapping[str, datetime]) -> datetime | None:
    """A shard, or a claim, goes by the schedule of what it is a part of."""
    found = (paused.get(name) for name in (component, component.partition(".")[0]))
    return next((moment for moment in found if moment is not None), None)


def judged(report: Report) -> Report:
    """Raises DrillFailedError for one that did not pass: somebody has to know."""
    if not report.passed:
        raise DrillFailedError(
            f"the {report.kind.value} drill failed: {'; '.join(report.reasons)}",
            remedy=f"phoenix drill report {report.id}",
        )
    return report


def drill_figures(reports: Iterable[Report]) -> list[DrillFigures]:
    """Of each kind of drill. `reports`: newest first."""
    known = list(reports)
    return [_figures(same) for kind in Kind if (same := [one for one in known if one.kind is kind])]


def _figures(same: Sequence[Report]) -> DrillFigures:
    newest = same[0]
    return DrillFigures(
        kind=newest.kind.value,
        passed=newest.passed,
        last=newest.started.timestamp(),
        last_passed=next((one.started.timestamp() for one in same if one.passed), None),
        last_failed=next((one.started.timestamp() for one in same if not one.passed), None),
        rto=newest.rto,
        rto_target=newest.rto_target,
        rpo={one.component: one.achieved for one in newest.rpo if one.achieved is not None},
        phases={phase.value: seconds for phase, seconds in newest.phases.items()}
        if newest.kind is Kind.MONTHLY
        else {},
    )


def _now() -> datetime:
    return datetime.now(UTC)

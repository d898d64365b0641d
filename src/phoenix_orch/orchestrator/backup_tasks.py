"""Backups as tasks of Phoenix: when they run, who is told how far they are, and what the audit log holds."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog
from pydantic import BaseModel, Field

from phoenix_orch.kernel.errors import BadState, PhoenixError, Retryable, Terminal
from phoenix_orch.observability import metrics
from phoenix_orch.orchestrator import backup_ping
from phoenix_orch.orchestrator.backup_home import HERE, Home
from phoenix_orch.orchestrator.backup_progress import Meter, waiting_for
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.manifest import Level, Trigger, TriggerKind
from phoenix_orch.recovery.sources.copied import KIND as COPY
from phoenix_orch.recovery.sources.files_configured import component_of
from phoenix_orch.recovery.spec import BackupSpec
from phoenix_orch.recovery.verifying import turn
from phoenix_orch.security.recorder import Recorder
from phoenix_orch.tasks.context import TaskContext
from phoenix_orch.tasks.registry import TaskKind, task
from phoenix_orch.tasks.schedule import Schedule, Timing
from phoenix_orch.tasks.spec import Retries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from phoenix_orch.orchestrator.backups import Backups
    from phoenix_orch.recovery.catalog import Backup, View

RUN, VERIFY, PRUNE, CHECK = "backup.run", "backup.verify", "backup.prune", "backup.check"
COMPONENTS = ("config",)
"""What is backed up everywhere."""
DAYS = 7
"""In which the check reads every backup once."""
LATE = 2
"""A backup is stale when so many of its intervals have passed since the newest good one."""
T = TypeVar("T")

_log = structlog.get_logger("phoenix.backup")


class DeclaresBackups(Protocol):
    """A configuration."""

    @property
    def backup(self) -> BackupSpec | None: ...


class RunBackup(BaseModel):
    component: str = Field(max_length=130)
    """Which one: `config`, `redis/NAME`, `volume/NAME`."""
    reason: str = Field(default="", max_length=1000)


class VerifyBackup(BaseModel):
    backup: str = Field(default="latest", max_length=100)
    """Its id, the beginning of one, or `latest`."""
    component: str = Field(default="", max_length=130)
    level: int | None = Field(default=None, ge=0, le=5)
    """Left out: as far as can be seen here."""


class PruneBackups(BaseModel):
    component: str = Field(default="", max_length=130)
    """Left out: all."""


class BackupDone(BaseModel):
    """What a run has published."""

    backup: str = ""
    """Empty: that of the slot was there already."""
    component: str
    level: int = 0
    raw_bytes: int = 0
    stored_bytes: int = 0
    rpo_seconds: float = 0.0
    good: bool = True
    """False: it is much smaller than those before."""
    members: list[BackupDone] = Field(default_factory=list)
    """What was published of each, where the component stands for several claims of a cluster."""


class LookDone(BaseModel):
    backup: str
    level: int
    passed: bool
    detail: str


class PruneDone(BaseModel):
    marked: list[str]
    removed: list[str]
    swept: int
    bytes: int
    stopped: list[str]


class CheckDone(BaseModel):
    checked: int
    problems: list[str]


def schedules(config: DeclaresBackups | None) -> Sequence[Schedule]:
    """What the section `backup` asks for; nothing without it."""
    spec = config.backup if config is not None else None
    if spec is None:
        return ()
    redis = [name for known, one in spec.redis.items() for name in one.components(known)]
    runs = [
        Schedule(
            name=f"backup-{re.sub('[./]', '-', component)}",
            kind=RUN,
            timing=Timing(every=spec.schedule.of(component)),
            arguments={"component": component},
            target=component,
        )
        for component in (
            *COMPONENTS,
            *redis,
            *map(component_of, spec.volume_names),
            *(f"{COPY}/{name}" for name in spec.copy_names),
        )
    ]
    return (
        *runs,
        Schedule(name="backup-check", kind=CHECK, timing=Timing(cron="23 4 * * *")),
        Schedule(
            name="backup-prune",
            kind=PRUNE,
            timing=Timing(cron="41 * * * *", jitter=timedelta(minutes=5)),
        ),
    )


async def wake_left(layout: Layout) -> None:
    """Wake the applications that a run which died has left at rest. What fails is told, and tried again
    before the next backup."""
    if not any(layout.backup_notes.glob("*.json")):
        return
    from phoenix_orch.recovery.hooks import wake_left as wake  # noqa: PLC0415 - only after a crash

    for one in await asyncio.to_thread(wake, layout.backup_notes):
        if one.fault:
            _log.error("an application may still be at rest", hook=one.hook, reason=one.fault)
        else:
            _log.info("an application that a backup had left at rest was woken", hook=one.hook)


class Work:
    """What all kinds of tasks about backups have in common."""

    def __init__(
        self,
        config: Callable[[], DeclaresBackups | None],
        layout: Layout,
        recorder: Recorder,
        home: Callable[[BackupSpec], Home] = lambda _: HERE,
    ) -> None:
        self._config = config
        self._home = home
        self.layout = layout
        self._recorder = recorder

    @property
    def declared(self) -> DeclaresBackups | None:
        return self._config()

    @property
    def spec(self) -> BackupSpec:
        """Raises BadState where backups are not configured."""
        known = self._config()
        if known is None or known.backup is None:
            raise BadState(
                "backups are not configured",
                remedy="`phoenix keys init` makes keys and says what to put into phoenix.yaml",
            )
        return known.backup

    async def opened(self, actor: str) -> Backups:
        """Raises StorageLostError, which metrics tell as well."""
        from phoenix_orch.orchestrator.backups import Backups  # noqa: PLC0415 - half a second
        from phoenix_orch.recovery.storage_mark import StorageLostError  # noqa: PLC0415

        spec = self.spec
        backups = await asyncio.to_thread(Backups, spec, self.layout, by=actor, home=self._home(spec))
        try:
            await asyncio.to_thread(backups.marks.look)
        except StorageLostError as error:
            metrics.BACKUPS.lost(True)
            _log.error("the storage of backups is lost", reason=error.message)
            raise
        metrics.BACKUPS.lost(False)
        return backups

    @asynccontextmanager
    async def acting(self, action: str, target: str, context: TaskContext) -> AsyncIterator[Any]:
        asked = self._recorder.acting(
            action, f"backup/{target}", actor=context.actor, reason=context.record.reason
        )
        async with asked as act:
            yield act

    async def threaded(
        self, context: TaskContext, meter: Meter, work: Callable[[Callable[[], bool]], T]
    ) -> T:
        """Run `work` in a thread and tell how far it is. When the task is cancelled, it is told to stop."""
        stop = threading.Event()
        telling = asyncio.create_task(_tell(context, meter))
        running = asyncio.ensure_future(asyncio.to_thread(work, stop.is_set))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([running])
            running.exception()  # asked for, or the event loop would print it, in no form of the log
            raise
        finally:
            telling.cancel()

    async def refreshed(self, backups: Backups) -> list[View]:
        """The views, and metrics of them and of the drills."""
        from phoenix_orch.orchestrator.backup_figures import figures  # noqa: PLC0415 - half a second
        from phoenix_orch.orchestrator.drills import Drills, drill_figures  # noqa: PLC0415 - half a second

        views = await asyncio.to_thread(backups.views)
        metrics.BACKUPS.set(
            await asyncio.to_thread(lambda: [figures(view, backups.seen(view)) for view in views])
        )
        drills = Drills(backups, self.layout, by="")
        reports, _ = await asyncio.to_thread(drills.reports)
        metrics.DRILLS.set(drill_figures(reports))
        return views


async def _tell(context: TaskContext, meter: Meter) -> None:
    while True:
        await context.progress(*meter.told())
        await asyncio.sleep(0.5)


def kinds(work: Work) -> tuple[TaskKind, ...]:
    return _run_kind(work), _verify_kind(work), _prune_kind(work), _check_kind(work)


def _run_kind(work: Work) -> TaskKind:
    @task(
        kind=RUN,
        summary="Take a backup, look at what was stored, and publish it",
        single=True,
        deadline=timedelta(hours=6),
        cleanup=timedelta(minutes=2),
        # a run that was killed holds its lease for a minute: three attempts could be over before that ends
        retries=Retries(attempts=4, wait=timedelta(seconds=20)),
    )
    async def run(context: TaskContext, arguments: RunBackup) -> BackupDone:
        backups = await work.opened(context.actor)
        members = await asyncio.to_thread(backups.members, arguments.component)
        if list(members) == [arguments.component]:
            return await _run_one(work, context, backups, arguments.component, arguments.reason)
        done, failed = list[BackupDone](), dict[str, PhoenixError]()
        for member in members:
            try:
                done.append(await _run_one(work, context, backups, member, arguments.reason))
            except PhoenixError as error:  # the others are backed up all the same
                failed[member] = error
                await context.log(f"{member}: {error.message}")
        if failed:
            raise _joined(failed)
        return BackupDone(component=arguments.component, members=done, good=all(one.good for one in done))

    return run


async def _run_one(
    work: Work, context: TaskContext, backups: Backups, component: str, reason: str
) -> BackupDone:
    slot = context.record.slot
    trigger = Trigger(
        kind=TriggerKind.SCHEDULE if slot is not None else TriggerKind.MANUAL,
        actor=context.actor,
        reason=reason or context.record.reason,
        task=context.id,
    )
    views = await asyncio.to_thread(backups.views, component)
    meter = Meter(_usual(views), waiting=waiting_for(component))
    async with work.acting(RUN, component, context) as act:
        published = await work.threaded(
            context,
            meter,
            lambda stop: backups.run(component, trigger, slot=slot, told=meter.as_told(stop)),
        )
        done = BackupDone(component=component)
        if published is not None:
            manifest, look = published.manifest, published.look
            done = BackupDone(
                backup=manifest.id,
                component=manifest.component,
                level=look.level,
                raw_bytes=manifest.stream.raw_bytes,
                stored_bytes=manifest.stream.stored_bytes,
                rpo_seconds=manifest.time.rpo_seconds,
                good=look.passed and not manifest.drops,
            )
        act.after = done.model_dump(exclude={"members"})
    for warning in meter.warnings:
        await context.log(warning)
    if published is not None and published.abandoned is not None:
        await context.log(f"the run of {published.abandoned.started:%H:%M:%S} before it was found dead")
    await context.log(_said(done))
    views = await work.refreshed(backups)
    if published is not None and not published.look.passed:
        raise Terminal(
            f"backup {done.backup} is published and does not hold: {published.look.detail}",
            remedy="an earlier one counts; look after its source, and run it again",
        )
    if done.backup and done.good and done.level >= Level.OPENED:
        await backup_ping.ping(backups, views, component, context)
    return done


def _joined(failed: Mapping[str, PhoenixError]) -> PhoenixError:
    """One error for all; tried again where one of them may pass. A slot that was published stays as it is."""
    first = next((one for one in failed.values() if isinstance(one, Retryable)), next(iter(failed.values())))
    kind = Retryable if isinstance(first, Retryable) else Terminal
    text = "; ".join(f"{member}: {error.message}" for member, error in failed.items())
    return kind(f"not all were backed up: {text}", remedy=first.remedy)


def _said(done: BackupDone) -> str:
    if not done.backup:
        return "the backup of this slot is there already"
    text = f"published {done.backup}: {done.raw_bytes} bytes, {done.stored_bytes} stored, level {done.level}"
    if done.level >= Level.OPENED and not done.good:
        text += (
            "; it is much smaller than those before and does not count until "
            f"`phoenix backup acknowledge {done.backup}`"
        )
    return text


def _verify_kind(work: Work) -> TaskKind:
    @task(
        kind=VERIFY,
        summary="Look at a backup: whether it is there, holds and opens",
        deadline=timedelta(hours=6),
        cleanup=timedelta(minutes=2),
    )
    async def verify(context: TaskContext, arguments: VerifyBackup) -> LookDone:
        backups = await work.opened(context.actor)
        found = await asyncio.to_thread(backups.one, arguments.backup, component=arguments.component)
        level = None if arguments.level is None else Level(arguments.level)
        async with work.acting(VERIFY, found.id, context) as act:
            done = await _look(work, context, backups, found, level)
            act.after = done.model_dump()
        await work.refreshed(backups)
        if not done.passed:
            raise Terminal(f"backup {found.id} does not hold: {done.detail}", remedy="use another backup")
        return done

    return verify


async def _look(
    work: Work, context: TaskContext, backups: Backups, backup: Backup, level: Level | None
) -> LookDone:
    meter = Meter(backup.manifest.stream.raw_bytes)
    look = await work.threaded(
        context, meter, lambda stop: backups.verify(backup, level, told=meter.as_told(stop))
    )
    await context.log(
        f"{backup.id}: level {look.level} {'holds' if look.passed else 'FAILED'}: {look.detail}"
    )
    return LookDone(backup=backup.id, level=look.level, passed=look.passed, detail=look.detail)


def _prune_kind(work: Work) -> TaskKind:
    @task(
        kind=PRUNE,
        summary="Remove backups that retention does not keep, and what dead runs left",
        single=True,
        deadline=timedelta(hours=1),
        retries=Retries(attempts=3),
    )
    async def prune(context: TaskContext, arguments: PruneBackups) -> PruneDone:
        backups = await work.opened(context.actor)
        total = PruneDone(marked=[], removed=[], swept=0, bytes=0, stopped=[])
        for view in await asyncio.to_thread(backups.views, arguments.component):
            plan = await asyncio.to_thread(backups.plan, view)
            if plan.stop:
                total.stopped.append(f"{view.scope.component}: {plan.stop}")
                continue
            async with work.acting(PRUNE, view.scope.component, context) as act:
                done = await asyncio.to_thread(backups.prune, view, plan)
                act.after = {"marked": list(done.marked), "removed": list(done.removed)}
            total.marked += done.marked
            total.removed += done.removed
            total.swept += len(done.swept)
            total.bytes += done.bytes
        await context.log(
            f"{len(total.marked)} marked, {len(total.removed)} removed, {total.swept} left-overs swept",
            *[f"nothing is removed of {text}" for text in total.stopped],
        )
        await work.refreshed(backups)
        if total.stopped:
            raise Terminal("; ".join(total.stopped), remedy="`phoenix backup prune --dry-run` explains")
        return total

    return prune


def _check_kind(work: Work) -> TaskKind:
    @task(
        kind=CHECK,
        summary="Check that backups come, are there, and that the newest of each opens",
        single=True,
        deadline=timedelta(hours=6),
        cleanup=timedelta(minutes=2),
        retries=Retries(attempts=2, wait=timedelta(minutes=1)),
    )
    async def check(context: TaskContext) -> CheckDone:
        backups = await work.opened(context.actor)
        views = await asyncio.to_thread(backups.views)
        async with work.acting(CHECK, "all", context) as act:
            looked = 0
            for view in views:
                for backup, level in due_looks(view, datetime.now(UTC)):
                    await _look(work, context, backups, backup, level)
                    looked += 1
            views = await work.refreshed(backups)
            now = await asyncio.to_thread(backups.store.now)
            found = [text for view in views for text in problems(view, backups.spec, now)]
            act.after = {"problems": found}
        await context.log(*found or ["all is well"])
        if found:
            raise Terminal(f"backups are not well: {'; '.join(found)}", remedy="`phoenix backup list`")
        return CheckDone(checked=looked, problems=[])

    return check


def due_looks(view: View, now: datetime) -> Iterable[tuple[Backup, Level | None]]:
    """What the check of this day looks at: the newest as far as can be, of the others one part of seven, so
    that what is stored of each is read once a week."""
    newest = next((one for one in view.live if not one.future), None)
    for backup in view.live:
        if backup is newest:
            yield backup, None
        elif turn(backup.id, now.toordinal(), DAYS):
            yield backup, Level.STORED


def problems(view: View, spec: BackupSpec, now: datetime) -> Iterable[str]:
    """What is wrong with the backups of a component, in words."""
    name = view.scope.component
    every = spec.schedule.of(name)
    good = view.newest_good
    if good is None:
        yield f"{name}: there is no verified backup" if view.live else f"{name}: there is no backup"
    elif (age := now - good.manifest.time.consistency_point) > every * LATE:
        yield f"{name}: the newest verified backup is {int(age.total_seconds() // 60)} min old"
    for backup in view.live:
        if not backup.present:
            yield f"{name}: the data of {backup.id} is gone or cut"
        elif backup.future:
            yield f"{name}: {backup.id} is dated {backup.at:%Y-%m-%d %H:%M} UTC: a clock was wrong, or is"
        elif backup.failed is not None:
            yield f"{name}: {backup.id} does not hold: {backup.failed.detail}"
    if view.live and view.live[0].shrunk:
        yield f"{name}: the newest backup, {view.live[0].id}, is much smaller than those before"
    for fault in view.faults:
        yield f"{name}: {fault.message}"


def _usual(views: Sequence[View]) -> int:
    """Bytes that are to be expected: those of the last backup; 0 where there was none."""
    return next((view.live[0].manifest.stream.raw_bytes for view in views if view.live), 0)

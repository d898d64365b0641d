"""Tasks in Redis or Valkey: records, queues, indices, logs, and the states of schedules.

Keys, all under one prefix (`phoenix:tasks:` unless told otherwise):

    record:<id>      hash: one task               all, state:<state>   sorted sets of ids
    log:<id>         stream: what it said         key:<key>            id of the active task with it
    queue:<priority> ids, by when they are due    beat                 ids, by the last sign of life
    slots:<kind>[@<target>]  ids that run         blocked:<kind>       ids that wait for room, in order
    forget           ids, by when to forget       schedule:<name>      hash: one schedule
    cancel, due      pub/sub channels             sweeper              who looks after what was left behind

Every change is one script, which checks the state it starts from: two workers, or a worker and a person,
cannot both win. What waits is in a queue or blocked, what runs has a sign of life, and each script keeps that
so: nothing is between two places. Scripts reach all keys of a task at once, so Redis Cluster does not do.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import structlog
from pydantic import ValidationError
from redis.asyncio import Redis

from phoenix_orch.kernel.errors import BadState, NotFound, Terminal
from phoenix_orch.runtime.valkey_client import answered, connect
from phoenix_orch.tasks import encoding
from phoenix_orch.tasks.calls import ScriptCalls
from phoenix_orch.tasks.outcome import Settled
from phoenix_orch.tasks.record import ENDED, LogEntry, ScheduleState, State, TaskRecord
from phoenix_orch.tasks.spec import Priority, TaskSpec

PREFIX = "phoenix:tasks:"
SWEPT = 1000
"""Tasks that are looked after at once."""
_SCRIPTS = (
    "create",
    "take",
    "settle",
    "cancel",
    "revive",
    "beat",
    "tell",
    "fire",
    "rewind",
    "page",
    "sweep",
)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a worker was given, and when it is worth asking again."""

    records: tuple[TaskRecord, ...]
    """Its own now, each under its fence."""
    ended: tuple[tuple[str, str], ...]
    """Kind and state of what ended instead, because its worker had died."""
    wait: float | None
    """Seconds until more is due; None where nothing waits in the queues that were asked."""


@dataclass(frozen=True, slots=True)
class Due:
    """Something waits in a queue, and is the next one of it."""


@dataclass(frozen=True, slots=True)
class Unwanted:
    """A running task that somebody wants cancelled."""

    id: str


Heard = Due | Unwanted

_log = structlog.get_logger("phoenix.tasks")


class TaskStore:
    """One instance for a process; every task of its loop may call it at any time.

    Every method raises Retryable while the server is away.
    """

    def __init__(self, server: Redis | str, *, prefix: str = PREFIX) -> None:
        """`server`: a URL, or a client. Connects at the first call."""
        self.client = connect(server) if isinstance(server, str) else server
        self.prefix = prefix
        self._run = ScriptCalls(self.client, {name: _source(name) for name in _SCRIPTS}, prefix).run

    async def close(self) -> None:
        await self.client.aclose()

    # -- people and schedules ------------------------------------------------------------------------

    async def create(self, record: TaskRecord, spec: TaskSpec) -> str:
        """Queue a new task, unless one with its key is active. Gives the id of the one that is."""
        _, kept = await self._run("create", *_creation(record, spec))
        return _text(kept)

    async def get(self, id: str) -> TaskRecord:  # noqa: A002 - the field's word
        """Raises NotFound, Terminal for one that cannot be read."""
        async with answered(self.client):
            found = await cast("Any", self.client.hgetall(f"{self.prefix}record:{id}"))
        if not found:
            raise _no_such(id)
        return _read(_texts(found))

    async def page(self, state: State | None, before: str, limit: int) -> list[TaskRecord]:
        """Up to `limit` records, newest first, made before the one with that id; '' for the newest. One that
        cannot be read is left out: nobody is kept from the others by it."""
        reply = await self._run("page", state or "", before, limit)
        return [*_readable(fields for fields in map(json.loads, reply) if fields)]

    async def counts(self) -> dict[State, int]:
        """How many there are in each state."""
        async with answered(self.client), self.client.pipeline(transaction=False) as pipe:
            for state in State:
                pipe.zcard(f"{self.prefix}state:{state}")
            return dict(zip(State, await pipe.execute(), strict=True))

    async def cancel(self, id: str, by: str) -> None:  # noqa: A002
        """End what waits; ask the worker of what runs to end it.

        Raises NotFound, BadState for what is over.
        """
        how, *rest = await self._run("cancel", id, by)
        match _text(how):
            case "NONE":
                raise _no_such(id)
            case "OVER":
                raise BadState(
                    f"task {id} is over: it has {_text(rest[0])}", remedy="nothing is left to stop"
                )

    async def revive(self, id: str) -> None:  # noqa: A002
        """Queue a task again that failed, was cancelled or is dead.

        Raises NotFound, BadState for another state or while another task with its key is active.
        """
        how, *rest = await self._run("revive", id)
        match _text(how):
            case "NONE":
                raise _no_such(id)
            case "STATE":
                raise BadState(
                    f"task {id} is {_text(rest[0])}",
                    remedy="a task can be retried once it failed, was cancelled or is dead; run another one",
                )
            case "BUSY":
                raise BadState(
                    f"task {_text(rest[0])} has the same key and is not over",
                    remedy="wait until it is, or cancel it",
                )

    # -- workers ---------------------------------------------------------------------------------------

    async def take(self, worker: str, lease: timedelta, free: Mapping[Priority, int]) -> Taken:
        """Take what is due, the longest due first, as long as there is room for its kind.

        `free`: how many of each priority; queues that are not named are not asked.
        """
        asked = [part for pair in free.items() for part in pair]
        wait, records, ended = await self._run("take", worker, _ms(lease), *asked)
        return Taken(
            tuple(await self._fit(records)),
            tuple((_text(kind), _text(state)) for kind, state in ended),
            wait / 1000 if wait >= 0 else None,
        )

    async def _fit(self, records: Sequence[Any]) -> list[TaskRecord]:
        """Those that can be run; what cannot be read is dead, lest it come back with all others."""
        found = []
        for text in records:
            fields = json.loads(text)
            try:
                found.append(_read(fields))
            except Terminal as error:
                said = str(error)
                _log.error("a task is given up", task=fields["id"], problem=said)
                await self._run("settle", fields["id"], fields["fence"], State.DEAD, "", said, "error", said)
        return found

    async def settle(self, record: TaskRecord, settled: Settled) -> bool:
        """Write how an attempt ended. False when the task is no longer ours."""
        return bool(
            await self._run(
                "settle",
                record.id,
                record.fence,
                settled.state,
                encoding.milliseconds(settled.due) if settled.due is not None else "",
                str(settled.fields.get("error", "")),
                *_flat(encoding.fields(settled.fields)),
            )
        )

    async def beat(self, running: Mapping[str, int]) -> dict[str, str]:
        """Say that tasks, by id with their fences, still run. Gives those to stop: `cancel` or `lost`."""
        if not running:
            return {}
        reply = await self._run("beat", *(part for pair in running.items() for part in pair))
        return {_text(task): _text(why) for task, why in reply}

    async def tell(
        self, record: TaskRecord, *, progress: float | None = None, text: str = "", lines: Sequence[str] = ()
    ) -> bool:
        """Keep what a running task says. False when it is no longer ours."""
        said = "" if progress is None else repr(progress)
        return bool(await self._run("tell", record.id, record.fence, said, text, *lines))

    async def sweep(self, worker: str, lease: timedelta, every: timedelta) -> None:
        """Queue what was left behind by workers that died; forget those whose time is over.

        `every`: within this time of a look another one does nothing, whichever worker wants it.
        """
        await self._run("sweep", _ms(lease), _ms(every), SWEPT, worker)

    # -- what was said -----------------------------------------------------------------------------------

    async def log(self, id: str, after: str, limit: int) -> list[LogEntry]:  # noqa: A002
        """Up to `limit` entries behind the one with the id `after`; '' for the first ones."""
        start = f"({after}" if after else "-"
        async with answered(self.client):
            found: Any = await self.client.xrange(f"{self.prefix}log:{id}", start, "+", count=limit)
        return [encoding.entry(_text(entry), _texts(fields)) for entry, fields in found]

    async def last_log(self, id: str, limit: int) -> list[LogEntry]:  # noqa: A002
        """The last entries, oldest first."""
        async with answered(self.client):
            found: Any = await self.client.xrevrange(f"{self.prefix}log:{id}", count=limit)
        return [encoding.entry(_text(entry), _texts(fields)) for entry, fields in found][::-1]

    # -- schedules -------------------------------------------------------------------------------------

    async def schedule_states(self, names: Sequence[str]) -> list[ScheduleState]:
        """Raises Terminal for one that cannot be read."""
        async with answered(self.client), self.client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(f"{self.prefix}schedule:{name}")
            found = await pipe.execute()
        return [self._schedule_state(name, fields) for name, fields in zip(names, found, strict=True)]

    def _schedule_state(self, name: str, found: Any) -> ScheduleState:
        try:
            return encoding.schedule_state(_texts(found))
        except (ValueError, OverflowError):
            raise Terminal(
                f"what is stored in {self.prefix}schedule:{name} cannot be read",
                remedy="another program wrote it; remove the key: the schedule counts from then on",
            ) from None

    async def begin_schedule(self, name: str, now: datetime) -> None:
        """From now on its slots count, unless they do already."""
        async with answered(self.client):
            await cast(
                "Any",
                self.client.hsetnx(f"{self.prefix}schedule:{name}", "last", str(encoding.milliseconds(now))),
            )

    async def pause_schedule(self, name: str, paused: bool, now: datetime) -> None:
        """Paused slots are neither run nor missed: they count again from when the pause ends."""
        values: Any = {"paused": "1" if paused else "0", "last": str(encoding.milliseconds(now))}
        async with answered(self.client):
            await cast("Any", self.client.hset(f"{self.prefix}schedule:{name}", mapping=values))

    async def rewind_schedule(self, name: str, last: datetime, now: datetime) -> bool:
        """Its slots count from `now`, which is before the last one. False when another worker was quicker."""
        how, *_ = await self._run("rewind", name, encoding.milliseconds(last), encoding.milliseconds(now))
        return _text(how) == "DONE"

    async def fire(
        self, state: ScheduleState, slot: datetime, missed: int, record: TaskRecord, spec: TaskSpec
    ) -> bool:
        """Take a slot and keep its task. False when another worker has it, or the run before is not over."""
        how, *_ = await self._run(
            "fire",
            record.schedule,
            encoding.milliseconds(state.last) if state.last is not None else "",
            encoding.milliseconds(slot),
            missed,
            *_creation(record, spec),
        )
        return _text(how) == "DONE"

    # -- the server ------------------------------------------------------------------------------------

    async def hear(self, *, silence: float) -> AsyncIterator[Heard | None]:
        """What happens that workers should know at once; None at first, when nothing can be missed any more,
        and after each `silence` (seconds). Where it is lost, looks and signs of life tell the same, later."""
        pubsub: Any = self.client.pubsub()
        channels = f"{self.prefix}cancel", f"{self.prefix}due"
        try:
            async with answered(self.client):
                await pubsub.subscribe(*channels)
                for _ in channels:  # the server confirms each
                    await pubsub.get_message(timeout=silence)
            yield None
            while True:
                async with answered(self.client):
                    message = await pubsub.get_message(timeout=silence)
                yield self._heard(message) if message else None
        finally:
            await pubsub.aclose()

    def _heard(self, message: Mapping[str, Any]) -> Heard:
        if _text(message["channel"]) == f"{self.prefix}due":
            return Due()
        return Unwanted(_text(message["data"]))


def _read(fields: Mapping[str, str]) -> TaskRecord:
    """Raises Terminal for what is no record: another release of Phoenix may have written it."""
    try:
        return encoding.record(fields)
    except (ValueError, OverflowError) as error:  # a moment may be one that no calendar has
        found = error.errors()[0]["loc"] if isinstance(error, ValidationError) else ()
        raise Terminal(
            f"task {fields.get('id', '')} cannot be read: {', '.join(map(str, found)) or 'a number'} is not "
            "what it should be",
            remedy="run it with the release of Phoenix that wrote it, or run it anew",
        ) from None


def _readable(records: Iterable[Mapping[str, str]]) -> Iterator[TaskRecord]:
    for fields in records:
        try:
            yield _read(fields)
        except Terminal as error:
            _log.warning("a task is left out", task=fields.get("id"), problem=str(error))


def _creation(record: TaskRecord, spec: TaskSpec) -> list[Any]:
    return [
        record.id,
        record.key,
        record.state,
        encoding.milliseconds(record.due),
        record.priority,
        *_flat(encoding.new_fields(record, spec)),
    ]


def _flat(values: Mapping[str, str]) -> list[str]:
    return [part for pair in values.items() for part in pair]


def _texts(found: Mapping[Any, Any]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in found.items()}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _ms(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)


def _no_such(id: str) -> NotFound:  # noqa: A002
    return NotFound(f"there is no task {id!r}", remedy="phoenix task list shows all that are kept")


def _source(name: str) -> str:
    scripts = importlib.resources.files(__package__) / "scripts"
    return "\n".join((scripts / f"{part}.lua").read_text("utf-8") for part in ("common", name))


assert {"succeeded", "failed", "cancelled", "dead"} == ENDED  # what scripts/common.lua takes for over

"""Tasks in Redis or Valkey: records, indices, logs, and the states of schedules.

Keys, all under one prefix (`phoenix:tasks:` unless told otherwise):

    record:<id>      hash: one task               all, state:<state>   sorted sets of ids
    log:<id>         stream: what it said         key:<key>            id of the active task with it
    waiting          ids, by when to look after   beat                 ids, by the last sign of life
    slots:<kind>[@<target>]  ids that run         blocked:<kind>       ids that wait for room, in order
    forget           ids, by when to forget       schedule:<name>      hash: one schedule
    cancel           pub/sub channel of ids       sweeper              who looks after what was lost

Every change is one script, which checks the state it starts from: two workers, or a worker and a person,
cannot both win. Scripts reach all keys of a task at once, so Redis Cluster does not do. Only ids travel
through the queues (`delivery.py`); this is where the truth is.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from redis.asyncio import Redis

from phoenix_orch.kernel.errors import BadState, NotFound
from phoenix_orch.runtime.valkey_client import answered, connect
from phoenix_orch.tasks import encoding
from phoenix_orch.tasks.calls import ScriptCalls
from phoenix_orch.tasks.outcome import Settled
from phoenix_orch.tasks.record import ENDED, LogEntry, ScheduleState, State, TaskRecord
from phoenix_orch.tasks.spec import Priority, TaskSpec

PREFIX = "phoenix:tasks:"
GRACE = timedelta(seconds=5)
"""How long a task may be overdue before somebody looks whether its delivery was lost."""
SWEPT = 1000
"""Tasks that are looked after at once."""
_SCRIPTS = (
    "create",
    "claim",
    "settle",
    "cancel",
    "revive",
    "beat",
    "tell",
    "fire",
    "page",
    "sweep",
)


@dataclass(frozen=True, slots=True)
class Delivered:
    """A task that a worker should look at now."""

    id: str
    priority: Priority


@dataclass(frozen=True, slots=True)
class Taken:
    """The task is ours, under this record's fence."""

    record: TaskRecord


@dataclass(frozen=True, slots=True)
class Held:
    """Another worker runs it, and has shown itself within its lease, which ends after this time."""

    left: timedelta
    priority: Priority


@dataclass(frozen=True, slots=True)
class Blocked:
    """Enough of its kind run; it comes again when one ends."""


@dataclass(frozen=True, slots=True)
class Gone:
    """It is over, or there is none; who may run in its place."""

    woken: tuple[Delivered, ...] = ()
    kind: str = ""
    """With `ended`: where this claim was what ended it, because its worker had died."""
    ended: str = ""


Claim = Taken | Held | Blocked | Gone


class TaskStore:
    """One instance for a process; every task of its loop may call it at any time.

    Every method raises Retryable while the server is away.
    """

    def __init__(self, server: Redis | str, *, prefix: str = PREFIX, grace: timedelta = GRACE) -> None:
        """`server`: a URL, or a client. Connects at the first call."""
        self.grace = grace
        self.client = connect(server) if isinstance(server, str) else server
        self.prefix = prefix
        self._run = ScriptCalls(self.client, {name: _source(name) for name in _SCRIPTS}, prefix).run

    async def close(self) -> None:
        await self.client.aclose()

    # -- people and schedules ------------------------------------------------------------------------

    async def create(self, record: TaskRecord, spec: TaskSpec) -> str:
        """Keep a new task, unless one with its key is active. Gives the id of the one that is."""
        _, kept = await self._run("create", *_creation(record, spec, self.grace))
        return _text(kept)

    async def get(self, id: str) -> TaskRecord:  # noqa: A002 - the field's word
        """Raises NotFound."""
        async with answered(self.client):
            found = await cast("Any", self.client.hgetall(f"{self.prefix}record:{id}"))
        if not found:
            raise _no_such(id)
        return encoding.record(_texts(found))

    async def page(self, state: State | None, before: str, limit: int) -> list[TaskRecord]:
        """Up to `limit` records, newest first, made before the one with that id; '' for the newest."""
        reply = await self._run("page", state or "", before, limit)
        return [encoding.record(fields) for fields in map(json.loads, reply) if fields]

    async def counts(self) -> dict[State, int]:
        """How many there are in each state."""
        async with answered(self.client), self.client.pipeline(transaction=False) as pipe:
            for state in State:
                pipe.zcard(f"{self.prefix}state:{state}")
            return dict(zip(State, await pipe.execute(), strict=True))

    async def cancel(self, id: str, by: str) -> tuple[Delivered, ...]:  # noqa: A002
        """End what waits; ask the worker of what runs to end it. Gives who may run now.

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
            case "DONE":
                return _woken(rest[0])
        return ()

    async def revive(self, id: str) -> Delivered:  # noqa: A002
        """Queue a task again that failed, was cancelled or is dead.

        Raises NotFound, BadState for another state or while another task with its key is active.
        """
        how, *rest = await self._run("revive", id, _ms(self.grace))
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
        return Delivered(id, Priority(_text(rest[0])))

    # -- workers ---------------------------------------------------------------------------------------

    async def claim(self, id: str, worker: str, lease: timedelta) -> Claim:  # noqa: A002
        """Take a task, if nobody else runs it, and there is room."""
        how, *rest = await self._run("claim", id, worker, _ms(lease))
        match _text(how):
            case "GO":
                return Taken(encoding.record(json.loads(rest[0])))
            case "HELD":
                return Held(timedelta(milliseconds=int(rest[0])), Priority(_text(rest[1])))
            case "BLOCKED":
                return Blocked()
        return Gone(_woken(rest[0]), *map(_text, rest[1:]))

    async def settle(self, record: TaskRecord, settled: Settled) -> tuple[Delivered, ...] | None:
        """Write how an attempt ended. Gives who may run now; None when the task is no longer ours."""
        reply = await self._run(
            "settle",
            record.id,
            record.fence,
            settled.state,
            encoding.milliseconds(settled.due) if settled.due is not None else "",
            _ms(self.grace),
            str(settled.fields.get("error", "")),
            *_flat(encoding.fields(settled.fields)),
        )
        return _woken(reply[1]) if reply[0] else None

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

    async def sweep(self, worker: str, lease: timedelta) -> list[Delivered]:
        """Tasks whose delivery may have been lost; forgets those whose time is over. Mostly nothing: one
        worker at a time looks."""
        return list(_pairs(await self._run("sweep", _ms(lease), _ms(self.grace), SWEPT, worker)))

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
        async with answered(self.client), self.client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(f"{self.prefix}schedule:{name}")
            return [encoding.schedule_state(_texts(found)) for found in await pipe.execute()]

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
            *_creation(record, spec, self.grace),
        )
        return _text(how) == "DONE"

    # -- the server ------------------------------------------------------------------------------------

    async def cancellations(self, *, silence: float) -> AsyncIterator[str]:
        """Ids of running tasks that somebody wants cancelled; '' after each `silence` (seconds)."""
        pubsub: Any = self.client.pubsub()
        try:
            async with answered(self.client):
                await pubsub.subscribe(f"{self.prefix}cancel")
            while True:
                async with answered(self.client):
                    message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=silence)
                yield _text(message["data"]) if message else ""
        finally:
            await pubsub.aclose()


def _creation(record: TaskRecord, spec: TaskSpec, grace: timedelta) -> list[Any]:
    return [
        record.id,
        record.key,
        record.state,
        encoding.milliseconds(record.due),
        _ms(grace),
        *_flat(encoding.new_fields(record, spec)),
    ]


def _flat(values: Mapping[str, str]) -> list[str]:
    return [part for pair in values.items() for part in pair]


def _pairs(reply: Any) -> list[Delivered]:
    return [Delivered(_text(task), Priority(_text(priority))) for task, priority in reply]


def _woken(reply: Any) -> tuple[Delivered, ...]:
    return tuple(_pairs([reply])) if reply else ()


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

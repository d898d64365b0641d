"""Rollouts in Valkey or Redis: the embedded server, or any server by its URL.

Keys, all under one prefix (`phoenix:` unless told otherwise):

    rollouts            set of names               record:<name>     hash: version, wanted, status
    removed             hash: name → last version  commands:<name>   list, in order of arrival
    events:<name>       stream, ~10,000 newest     history:<name>    hash: number → release, 200 newest
    observations:<name> stream, ~20,000 newest     templates:<name>  hash: revision → template
    verdict:<name>      hash: verdict, at, state,  numbers:<name>    sorted set: revision by number
                        puts, verification         causes:<name>     hash: revision → release, cause
    changes             pub/sub channel of names

Every write is one script, which the server runs whole or, when it dies, not at all: the append-only
file holds what a script wrote as one transaction. Scripts reach all keys of a rollout at once, so Redis
Cluster does not do. Values are the models' JSON.
"""

from __future__ import annotations

import bisect
import importlib.resources
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import quote

from redis.asyncio import Redis

from phoenix_orch.health_validator.observation import Observation, Verdict
from phoenix_orch.health_validator.record import decode, encode
from phoenix_orch.kernel.errors import Conflict, NotFound
from phoenix_orch.rollout.status import (
    Cause,
    Command,
    Event,
    Release,
    Revision,
    Rollout,
    Status,
    Verification,
)
from phoenix_orch.rollout.store.store import RELEASES_KEPT, REVISIONS_KEPT, outdated
from phoenix_orch.rollout.store.valkey_streams import events_after, newest
from phoenix_orch.rollout.store.valkey_values import decoded, text_of
from phoenix_orch.rollout.store.valkey_watch import changed_names
from phoenix_orch.runtime.valkey_client import answered, connect

EVENTS_KEPT = 10_000
OBSERVATIONS_KEPT = 20_000
_NAMES_AGE = 1.0
"""Seconds after which names are read again."""
_RECORD_ONLY = {"status", "commands", "version"}
_KINDS = (
    "commands",
    "events",
    "history",
    "observations",
    "templates",
    "numbers",
    "causes",
    "verdict",
)
_SCRIPTS = (
    "read",
    "page",
    "put",
    "remove",
    "command",
    "save",
    "append",
    "fields",
    "cause",
    "revision",
    "revisions",
    "history",
    "verdict",
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEWER_THERE = 2
"""Answer of the script that keeps a verdict."""


class ValkeyStore:
    """A RolloutStore. One instance for a process; every task may call it at any time.

    Reading what is not there gives nothing; writing to a rollout that is not there raises NotFound
    (`add_revision` excepted: templates come before the rollout that wants them).
    """

    def __init__(self, server: Redis | str, *, prefix: str = "phoenix:") -> None:
        """`server`: a URL (`redis://`, `rediss://`, `unix://`), the path of a unix socket, or a client,
        which is then bounded in time but not changed. Connects at the first call."""
        if isinstance(server, str):
            server = connect(f"unix://{quote(server)}" if server.startswith("/") else server)
        self._client = server
        self._prefix = prefix
        self._changes = f"{prefix}changes"
        self._scripts = {name: server.register_script(_source(name)) for name in _SCRIPTS}
        self._decoded: dict[str, tuple[tuple[Any, ...], Rollout]] = {}
        """The last record of each rollout with what it says: most are read again as they were."""
        self._names: tuple[float, list[str]] = (float("-inf"), [])
        """All names in order, and since when that was so."""

    @property
    def client(self) -> Redis:
        """The connection, for what else is kept in the same place."""
        return self._client

    async def close(self) -> None:
        """Close all connections. The store connects again when it is used again."""
        await self._client.aclose()

    async def ping(self) -> None:
        """Raise Retryable when the server cannot be used now."""
        async with answered(self._client):
            await cast("Any", self._client.ping())

    # -- rollouts ----------------------------------------------------------------------------------

    async def rollouts(self) -> list[Rollout]:
        return sorted(await self._read(), key=lambda rollout: rollout.name)

    async def page(self, *, after: str = "", limit: int | None = None) -> list[tuple[Rollout, str]]:
        """As `PagedStore.page`. Names are at most a second old, those that this store put in or removed
        excepted."""
        names = await self._all_names()
        begin = bisect.bisect_right(names, after)
        chosen = names[begin:] if limit is None else names[begin : begin + limit]
        return await self._marked(chosen)

    async def marked(self, name: str) -> tuple[Rollout, str]:
        found = await self._marked([name])
        if not found:
            raise _no_such(name)
        return found[0]

    async def _marked(self, chosen: Sequence[str]) -> list[tuple[Rollout, str]]:
        if not chosen:
            return []
        prefixes = [self._key(kind, "") for kind in ("record", "commands", "verdict")]
        reply = await self._run("page", [], [*prefixes, *chosen])
        return [(self._rollout(text_of(name), record), text_of(puts or "")) for name, record, puts in reply]

    async def _all_names(self) -> list[str]:
        at, names = self._names
        if time.monotonic() - at > _NAMES_AGE:
            asked = time.monotonic()
            async with answered(self._client):
                found: Any = await cast("Any", self._client.smembers(self._key("rollouts")))
            names = sorted(map(text_of, found))
            self._names = asked, names
        return names

    async def get(self, name: str) -> Rollout:
        found = await self._read(name)
        if not found:
            raise _no_such(name)
        return found[0]

    async def _read(self, *names: str) -> list[Rollout]:
        reply = await self._run(
            "read",
            [self._key("rollouts")],
            [self._key("record", ""), self._key("commands", ""), *names],
        )
        found = [self._rollout(text_of(name), record) for name, record in reply]
        if not names:
            self._decoded = {name: self._decoded[name] for name in (text_of(key) for key, _ in reply)}
        return found

    async def put(self, rollout: Rollout) -> Rollout:
        name = rollout.name
        written, reply = await self._run(
            "put",
            [
                self._key("rollouts"),
                self._key("record", name),
                self._key("commands", name),
                self._key("removed"),
            ],
            [
                self._changes,
                name,
                rollout.version,
                rollout.model_dump_json(exclude=_RECORD_ONLY),
                Status().model_dump_json(),
            ],
        )
        if not written:
            raise _changed(rollout, reply)
        self._names = (float("-inf"), [])
        return self._rollout(name, reply)

    async def remove(self, name: str) -> None:
        keys = [self._key("rollouts"), self._key("record", name), self._key("removed")]
        await self._run("remove", keys + [self._key(kind, name) for kind in _KINDS], [self._changes, name])
        self._names = (float("-inf"), [])

    async def command(self, name: str, command: Command) -> None:
        await self._write(
            "command",
            name,
            [self._key("record", name), self._key("commands", name)],
            [self._changes, name, command.id, command.model_dump_json()],
        )

    async def save(
        self,
        rollout: Rollout,
        status: Status,
        *,
        events: Sequence[Event] = (),
        release: Release | None = None,
    ) -> Rollout:
        name = rollout.name
        written, reply = await self._run(
            "save",
            [self._key(kind, name) for kind in ("record", "commands", "events", "history")],
            [
                self._changes,
                name,
                rollout.version,
                status.model_dump_json(),
                EVENTS_KEPT,
                RELEASES_KEPT,
                release.number if release is not None else "",
                release.model_dump_json() if release is not None else "",
                *(event.model_dump_json() for event in events),
            ],
        )
        if not written:
            raise _changed(rollout, reply)
        return self._rollout(name, reply)

    # -- logs --------------------------------------------------------------------------------------

    async def events(self, name: str, *, limit: int = 100) -> list[Event]:
        key = self._key("events", name)
        return await newest(self._client, key, Event.model_validate_json, limit)

    async def events_after(self, name: str, event_id: str, limit: int) -> list[tuple[str, Event]]:
        """The oldest `limit` events after that one, with the ids they have in this store; `0-0`: from the
        first one on. All of them, too, where the log was made anew and has never come so far."""
        return await events_after(self._client, self._key("events", name), event_id, limit)

    async def append_events(self, name: str, events: Sequence[Event]) -> None:
        texts = [event.model_dump_json() for event in events]
        await self._append(self._changes, name, "events", EVENTS_KEPT, texts)

    async def append_observation(self, name: str, observation: Observation) -> None:
        await self._append("", name, "observations", OBSERVATIONS_KEPT, [encode(observation)])

    async def _append(self, channel: str, name: str, log: str, kept: int, texts: Sequence[str]) -> None:
        keys = [self._key("record", name), self._key(log, name)]
        await self._write("append", name, keys, [channel, name, kept, *texts])

    async def observations(
        self, name: str, *, since: datetime | None = None, limit: int = 1000
    ) -> list[Observation]:
        return await newest(self._client, self._key("observations", name), decode, limit, since)

    # -- history -----------------------------------------------------------------------------------

    async def history(self, name: str, *, limit: int = 50) -> list[Release]:
        key = self._key("history", name)
        reply = await self._run("history", [key], [max(0, limit)])
        return [decoded(Release, release, f"{key} at {text_of(number)}") for number, release in reply]

    async def add_revision(self, name: str, revision: Revision) -> Revision:
        keys = [self._key(kind, name) for kind in ("record", "templates", "numbers", "causes")]
        reply = await self._run(
            "revision", keys, [revision.revision, revision.model_dump_json(), REVISIONS_KEPT]
        )
        return self._revision(name, revision.revision, *reply)

    async def revisions(self, name: str) -> list[Revision]:
        reply = await self._run("revisions", [self._key("templates", name), self._key("numbers", name)])
        return [self._revision(name, text_of(revision), *rest) for revision, *rest in reply]

    def _revision(self, name: str, revision: str, number: Any, template: Any) -> Revision:
        value = decoded(Revision, template, f"{self._key('templates', name)} at {revision}")
        return value.model_copy(update={"number": int(number)})

    # -- words of the other processes ----------------------------------------------------------------

    async def put_verdict(
        self, name: str, verdict: Verdict, judge_state: str, *, clock_back: bool = False
    ) -> None:
        written = await self._run(
            "verdict",
            [self._key("record", name), self._key("verdict", name)],
            [
                self._changes,
                name,
                (verdict.at - _EPOCH) // timedelta(microseconds=1),
                "1" if clock_back else "",
                verdict.model_dump_json(),
                judge_state,
            ],
        )
        if not written:
            raise _no_such(name)
        if written == _NEWER_THERE:
            raise outdated(name)

    async def show_verdict(self, name: str, verdict: Verdict, *, clock_back: bool = False) -> None:
        """It is known as soon as it is put."""

    async def judged(self, name: str) -> Verdict | None:
        kept = await self.verdict(name)
        return kept[0] if kept is not None else None

    async def verdict(self, name: str) -> tuple[Verdict, str] | None:
        verdict, state = await self._fields(name, "verdict", "state")
        if verdict is None:
            return None
        return decoded(Verdict, verdict, f"{self._key('verdict', name)} at verdict"), text_of(state)

    async def put_verification(self, name: str, verification: Verification) -> None:
        await self._set_fields(name, {"verification": verification.model_dump_json()})

    async def verification(self, name: str) -> Verification | None:
        (text,) = await self._fields(name, "verification")
        if text is None:
            return None
        return decoded(Verification, text, f"{self._key('verdict', name)} at verification")

    async def put_cause(self, name: str, cause: Cause) -> None:
        await self._write(
            "cause",
            name,
            [self._key("record", name), self._key("causes", name)],
            [self._changes, name, cause.revision, cause.model_dump_json()],
        )

    async def cause(self, name: str, revision: str) -> Cause | None:
        key = self._key("causes", name)
        async with answered(self._client):
            text = await cast("Any", self._client.hget(key, revision))
        if text is None:
            return None
        return decoded(Cause, text_of(text).partition("\n")[2], f"{key} at {revision}")

    async def clear_cause(self, name: str, revision: str) -> None:
        async with answered(self._client):
            await cast("Any", self._client.hdel(self._key("causes", name), revision))

    async def _set_fields(self, name: str, fields: dict[str, str]) -> None:
        pairs = [text for pair in fields.items() for text in pair]
        keys = [self._key("record", name), self._key("verdict", name)]
        await self._write("fields", name, keys, [self._changes, name, *pairs])

    async def _fields(self, name: str, *fields: str) -> list[Any]:
        async with answered(self._client):
            found = await cast("Any", self._client.hmget(self._key("verdict", name), list(fields)))
        return list(found)

    # -- watching ----------------------------------------------------------------------------------

    def watch(self, *, timeout: timedelta) -> AsyncIterator[str]:
        return changed_names(self._client, self._changes, timeout=timeout)

    # -- plumbing ----------------------------------------------------------------------------------

    def _key(self, kind: str, name: str | None = None) -> str:
        # The name comes last, so that no name can be read as the key of something else.
        return f"{self._prefix}{kind}" if name is None else f"{self._prefix}{kind}:{name}"

    async def _run(self, script: str, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        async with answered(self._client):
            return await cast("Any", self._scripts[script](keys=list(keys), args=list(args)))

    async def _write(self, script: str, name: str, keys: Sequence[str], args: Sequence[Any]) -> None:
        if not await self._run(script, keys, args):
            raise _no_such(name)

    def _rollout(self, name: str, record: Sequence[Any]) -> Rollout:
        version, wanted, status, commands = record
        texts = (version, wanted, status, *commands)
        if (known := self._decoded.get(name)) is not None and known[0] == texts:
            return known[1]
        key = self._key("record", name)
        rollout = decoded(Rollout, wanted, f"{key} at wanted")
        waiting = self._key("commands", name)
        rollout = rollout.model_copy(
            update={
                "status": decoded(Status, status, f"{key} at status"),
                "commands": tuple(decoded(Command, command, waiting) for command in commands),
                "version": int(version),
            }
        )
        self._decoded[name] = (texts, rollout)
        return rollout


def _source(name: str) -> str:
    scripts = importlib.resources.files(__package__) / "scripts"
    return "\n".join((scripts / f"{part}.lua").read_text("utf-8") for part in ("record", name))


def _no_such(name: str) -> NotFound:
    return NotFound(f"there is no rollout {name!r}", remedy="phoenix get rollouts lists them")


def _changed(rollout: Rollout, stored: Any) -> Conflict:
    found = f"version {text_of(stored)}" if int(stored) else "not there"
    return Conflict(
        f"rollout {rollout.name} is {found} in the store, not version {rollout.version}: "
        "it was changed meanwhile",
        remedy="read it again and decide again",
    )

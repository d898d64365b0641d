"""Copies of a Redis or Valkey: of a replica where there is one, of each shard of a cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from phoenix_orch.kernel.errors import BadState, Forbidden, PhoenixError, Terminal
from phoenix_orch.recovery.backup_source import Capture, Facts
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.redis_asking import asking, configuration, facts, facts_of, functions
from phoenix_orch.recovery.redis_facts import RedisFacts
from phoenix_orch.recovery.sources.redis_choice import Choice, choose, fork_memory, obstacle
from phoenix_orch.recovery.sources.redis_shards import Shard, shards_of, unserved
from phoenix_orch.recovery.sources.redis_spec import Prefer, RedisSpec
from phoenix_orch.recovery.sources.replication import Patience, ReplicationStream, replicate

NAME = "dump.rdb"
_LOOK = 0.5
"""Seconds between looks whether a server has done with its child: it tells nobody by itself."""
Clock = Callable[[], datetime]

_log = structlog.get_logger("phoenix.backup")


@dataclasses.dataclass(frozen=True, slots=True)
class _Survey:
    """What was known of the servers before the copy was asked for."""

    choice: Choice | None
    """None: the user may not ask INFO, so that the named server gives the copy."""
    functions: int | None = None
    configuration: dict[str, Any] = dataclasses.field(default_factory=dict)


class RedisCapture:
    """One dump that is being read."""

    name = NAME

    def __init__(
        self, stream: ReplicationStream, survey: _Survey, shard: Shard | None, now: datetime
    ) -> None:
        self._stream = stream
        self._survey = survey
        self._shard = shard
        self._asked = now
        self._ended = False
        self.estimate = survey.choice.facts.used_memory if survey.choice is not None else 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._ended = self._ended or size < 0 or (not data and size != 0)
        return data

    def facts(self) -> Facts:
        if not self._ended:
            raise BadState("the copy has not been read to its end", remedy='read on until b"" comes')
        stream, choice = self._stream, self._survey.choice
        header, hello = stream.header, stream.hello
        found = choice.facts if choice is not None else None
        return Facts(
            consistency_point=header.consistency_point or self._asked,
            engine={
                "name": hello.server or (found.server if found else ""),
                "version": hello.version or header.server_version,
                "format": header.format,
                "modules": list(found.modules if found else hello.modules),
            },
            content=_content(found, self._survey.functions, self._shard),
            source={
                "address": str(stream.address),
                "role": hello.role or (found.role if found else ""),
                "mode": hello.mode,
                "runId": found.run_id if found else "",
                "usedMemory": header.used_memory,
                "chosen": choice.why if choice else "its user may not ask INFO",
                "forkEstimate": fork_memory(found) if found else None,
                **self._survey.configuration,
            },
            replication={
                "id": stream.replication_id,
                "offset": stream.offset,
                "behindBytes": choice.behind if choice else None,
                "silentSeconds": found.silence if found and found.role == "slave" else None,
            },
            measures=("keys",) if found else (),
        )


def _content(found: RedisFacts | None, count: int | None, shard: Shard | None) -> dict[str, Any]:
    """Keys as INFO counted them before the fork; what the dump holds is counted when it is verified."""
    content: dict[str, Any] = {"functions": count}
    if found is not None:
        content |= {
            "keys": found.keys,
            "expires": found.expires,
            "databases": {str(n): {"keys": k, "expires": e} for n, (k, e) in found.databases.items()},
            "counted": "by INFO before the fork",
        }
    if shard is not None:
        content["slots"] = [list(span) for span in shard.slots]
    return content


class RedisSource:
    """One server, or one shard of a cluster. `capture` asks anew who is who each time."""

    def __init__(
        self,
        component: str,
        address: RedisAddress,
        spec: RedisSpec,
        *,
        shard: Shard | None = None,
        patience: Patience | None = None,
        clock: Clock = lambda: datetime.now(UTC),
    ) -> None:
        """`component`: `redis/NAME`. `address`: as `spec` has it, with the password; or the shard's."""
        self.component = component
        self._address = address
        self._spec = spec
        self._shard = shard
        self._patience = patience or Patience()
        self._clock = clock

    @contextlib.contextmanager
    def capture(self) -> Iterator[Capture]:
        """Raises PhoenixError: Retryable where it may work later."""
        survey = self._survey()
        address = self._address
        if survey.choice is not None:
            if survey.choice.place is not None:
                address = address.at(*survey.choice.place)
            self._await_room(address, survey.choice.facts)
            _log.info("copy is taken", server=str(address), why=survey.choice.why)
        with replicate(address, self._patience) as stream:
            yield RedisCapture(stream, survey, self._shard, self._clock())

    def _await_room(self, address: RedisAddress, found: RedisFacts) -> None:
        """Wait while the server loads or another child of it runs. Raises Retryable when that lasts."""
        give_up = time.monotonic() + self._patience.start
        while (why := obstacle(found, check_memory=self._spec.check_memory)) is not None:
            if time.monotonic() > give_up or not (found.loading or found.saving or found.rewriting):
                raise type(why)(f"{address} gives no copy now: {why.message}", remedy=why.remedy)
            time.sleep(_LOOK)
            found = facts_of(address)

    def _survey(self) -> _Survey:
        try:
            with asking(self._address) as client:
                named, count, settings = facts(client), functions(client), configuration(client)
        except Forbidden:
            if self._spec.prefer is Prefer.ONLY_REPLICA:
                raise
            return _Survey(None)
        asked: dict[tuple[str, int], RedisFacts | PhoenixError] = {}
        if self._spec.prefer is not Prefer.PRIMARY:
            for replica in named.replicas:
                place = (replica.host, replica.port)
                asked[place] = self._ask(self._address.at(*place))
        choice = choose(named, asked, self._spec.prefer, self._spec.max_lag)
        return _Survey(choice, count, settings)

    def _ask(self, address: RedisAddress) -> RedisFacts | PhoenixError:
        try:
            return facts_of(address)
        except PhoenixError as error:
            return error


def redis_sources(
    name: str, address: RedisAddress, spec: RedisSpec, *, patience: Patience | None = None
) -> Sequence[RedisSource]:
    """What has to be copied of a Redis: itself, or every shard of the cluster that it is a node of.

    The shards of a cluster are copied one by one, so their copies are of different moments: each is
    consistent in itself. Raises PhoenixError where the server cannot be asked.
    """
    component = f"redis/{name}"
    try:
        with asking(address) as client:
            shards = shards_of(client, address.host)
    except Forbidden:
        shards = ()
    if not shards:
        return [RedisSource(component, address, spec, patience=patience)]
    if gaps := unserved(shards):
        raise Terminal(
            f"the cluster of {address} has no primary for the slots "
            + ", ".join(f"{first}-{last}" for first, last in gaps),
            remedy="mend the cluster first (`CLUSTER SHARDS` there); until then no whole copy can be taken",
        )
    return [
        RedisSource(
            f"{component}.shard{number}", address.at(*shard.primary), spec, shard=shard, patience=patience
        )
        for number, shard in enumerate(shards)
    ]

"""Both stores do what a model of a few dictionaries says, whatever is called in whatever order."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from phoenix_orch.kernel.errors import Conflict, NotFound, PhoenixError, Retryable
from phoenix_orch.rollout.status import Command, Rollout, Status
from phoenix_orch.rollout.store.memory import MemoryStore
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.rollout.store.valkey import ValkeyStore
from phoenix_orch.runtime.valkey_server import ServerInfo, ValkeyServer
from phoenix_orch.testing.store_samples import SHOP, cause, command, event, observation, release, revision

NAMES = ("api", "shop")
names = st.sampled_from(NAMES)
few = st.integers(min_value=0, max_value=4)
_serial = itertools.count()


class Model:
    """One rollout's worth of truth. `rollout` None: not there."""

    def __init__(self) -> None:
        self.rollout: Rollout | None = None
        self.last_version = 0
        self.forget()

    def forget(self) -> None:
        self.rollout = None
        self.events: list[Any] = []
        self.observations: list[Any] = []
        self.history: dict[int, Any] = {}
        self.revisions: dict[str, Any] = {}
        self.causes: dict[str, tuple[int, Any]] = {}


class StoreMachine(RuleBasedStateMachine):
    """Calls of several readers with knowledge of any age."""

    runner: asyncio.Runner
    known = Bundle("known")

    def new_store(self) -> RolloutStore:
        raise NotImplementedError

    def close_store(self) -> None:
        """Nothing to close."""

    def __init__(self) -> None:
        super().__init__()
        self.store = self.new_store()
        self.model = {name: Model() for name in NAMES}
        self.serial = itertools.count(1)

    def teardown(self) -> None:
        self.close_store()

    def call(self, what: Awaitable[Any]) -> Any:
        async def awaited() -> Any:
            return await what

        return self.runner.run(awaited())

    def fails(self, what: Awaitable[Any], error: type[PhoenixError]) -> None:
        with pytest.raises(error):
            self.call(what)

    @rule(target=known, name=names, replicas=few)
    def read_or_create(self, name: str, replicas: int) -> Rollout:
        model = self.model[name]
        if model.rollout is None:
            created = self.call(self.store.put(SHOP.model_copy(update={"name": name, "replicas": replicas})))
            model.last_version += 1
            model.rollout = SHOP.model_copy(
                update={"name": name, "replicas": replicas, "version": model.last_version}
            )
            assert created == model.rollout
        return model.rollout

    @rule(target=known, read=known, replicas=few)
    def put(self, read: Rollout, replicas: int) -> Rollout:
        model = self.model[read.name]
        wanted = read.model_copy(update={"replicas": replicas})
        if model.rollout is None or model.rollout.version != read.version:
            self.fails(self.store.put(wanted), Conflict)
            return read
        model.last_version += 1
        model.rollout = wanted.model_copy(
            update={
                "version": model.last_version,
                "status": model.rollout.status,
                "commands": model.rollout.commands,
            }
        )
        assert self.call(self.store.put(wanted)) == model.rollout
        return model.rollout

    @rule(target=known, read=known, handle=few, told=few, ends=st.booleans())
    def save(self, read: Rollout, handle: int, told: int, ends: bool) -> Rollout:
        model = self.model[read.name]
        number = read.status.release + 1
        handled = tuple(waiting.id for waiting in read.commands[:handle])
        status = Status(release=number, handled=handled, weight=handle)
        events = [event(next(self.serial)) for _ in range(told)]
        ended = release(number, reason=str(next(self.serial))) if ends else None
        if model.rollout is None or model.rollout.version != read.version:
            self.fails(self.store.save(read, status, events=events, release=ended), Conflict)
            return read
        model.last_version += 1
        left = tuple(c for c in model.rollout.commands if c.id not in handled)
        model.rollout = model.rollout.model_copy(
            update={"status": status, "commands": left, "version": model.last_version}
        )
        model.events += events
        if ended is not None:
            model.history[number] = ended
        assert self.call(self.store.save(read, status, events=events, release=ended)) == model.rollout
        return model.rollout

    @rule(name=names, number=st.integers(min_value=0, max_value=9))
    def command(self, name: str, number: int) -> None:
        model = self.model[name]
        given: Command = command(f"c{number}")
        if model.rollout is None:
            self.fails(self.store.command(name, given), NotFound)
            return
        self.call(self.store.command(name, given))
        waiting = {c.id for c in model.rollout.commands}
        if given.id not in waiting | set(model.rollout.status.handled):
            model.last_version += 1
            model.rollout = model.rollout.model_copy(
                update={"commands": (*model.rollout.commands, given), "version": model.last_version}
            )

    @rule(read=consumes(known))
    def remove(self, read: Rollout) -> None:
        self.call(self.store.remove(read.name))
        self.model[read.name].forget()

    @rule(name=names, repeat=st.booleans())
    def append(self, name: str, repeat: bool) -> None:
        model = self.model[name]
        events = model.events[-2:] if repeat else [event(next(self.serial))]
        seen = model.observations[-1] if repeat and model.observations else observation(next(self.serial))
        if model.rollout is None:
            self.fails(self.store.append_events(name, events), NotFound)
            self.fails(self.store.append_observation(name, seen), NotFound)
            return
        self.call(self.store.append_events(name, events))
        self.call(self.store.append_observation(name, seen))
        model.events += [e for e in events if e not in model.events]
        model.observations += [seen] if seen not in model.observations else []

    @rule(name=names, number=few)
    def add_revision(self, name: str, number: int) -> None:
        known = self.model[name].revisions
        kept = self.call(self.store.add_revision(name, revision(number)))
        numbered = revision(number).model_copy(update={"number": len(known) + 1})
        assert kept == known.setdefault(numbered.revision, numbered)

    @rule(name=names, number=few)
    def put_cause(self, name: str, number: int) -> None:
        model = self.model[name]
        told = cause(str(next(self.serial)), revision=f"r{number}")
        if model.rollout is None:
            self.fails(self.store.put_cause(name, told), NotFound)
            return
        self.call(self.store.put_cause(name, told))
        current = model.rollout.status.release
        if model.causes.get(told.revision, (None,))[0] != current:
            model.causes[told.revision] = (current, told)

    @rule(name=names, number=few)
    def clear_cause(self, name: str, number: int) -> None:
        self.call(self.store.clear_cause(name, f"r{number}"))
        self.model[name].causes.pop(f"r{number}", None)

    @invariant()
    def everything_reads_as_the_model_says(self) -> None:
        self.call(self._compare())

    async def _compare(self) -> None:
        there = [model.rollout for model in self.model.values() if model.rollout is not None]
        assert await self.store.rollouts() == there
        for name, model in self.model.items():
            assert await self.store.events(name, limit=1000) == model.events
            assert await self.store.observations(name) == model.observations
            newest_first = [model.history[number] for number in sorted(model.history, reverse=True)]
            assert await self.store.history(name, limit=1000) == newest_first
            assert await self.store.revisions(name) == list(model.revisions.values())
            for number in range(5):
                told = model.causes.get(f"r{number}")
                assert await self.store.cause(name, f"r{number}") == (told[1] if told else None)


class MemoryMachine(StoreMachine):
    def new_store(self) -> RolloutStore:
        return MemoryStore()

    @rule()
    def away(self) -> None:
        assert isinstance(self.store, MemoryStore)
        self.store.away(1)
        self.fails(self.store.remove("shop"), Retryable)


class ValkeyMachine(StoreMachine):
    info: ServerInfo

    def new_store(self) -> RolloutStore:
        return ValkeyStore(self.info.url, prefix=f"model{next(_serial)}:")

    def close_store(self) -> None:
        assert isinstance(self.store, ValkeyStore)
        self.runner.run(self.store.close())

    @rule()
    def another_process_takes_over(self) -> None:
        assert isinstance(self.store, ValkeyStore)
        prefix = self.store._prefix
        self.close_store()
        self.store = ValkeyStore(self.info.url, prefix=prefix)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


CALM = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    database=None,
)


def test_the_store_in_memory_is_as_the_model(runner: asyncio.Runner) -> None:
    MemoryMachine.runner = runner
    run_state_machine_as_test(MemoryMachine, settings=settings(CALM, max_examples=60, stateful_step_count=40))


def test_the_store_on_valkey_is_as_the_model(runner: asyncio.Runner, tmp_path: Path) -> None:
    keeper = ValkeyServer(tmp_path / "valkey")
    ValkeyMachine.runner = runner
    ValkeyMachine.info = runner.run(keeper.ensure())
    try:
        run_state_machine_as_test(
            ValkeyMachine, settings=settings(CALM, max_examples=12, stateful_step_count=30)
        )
    finally:
        runner.run(keeper.stop())

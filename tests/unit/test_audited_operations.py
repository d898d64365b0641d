"""Every operation that changes something leaves its records; the methods are those that the port has."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.unit.applying_setting import SECRET, config

from phoenix_orch.kernel.errors import BadState, PhoenixError, Retryable
from phoenix_orch.orchestrator.audited import AuditedOperations
from phoenix_orch.orchestrator.audited_flow import AuditedFlow
from phoenix_orch.orchestrator.differing import differing
from phoenix_orch.orchestrator.flow import Flow
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.orchestrator.views import Change, ChangeKind
from phoenix_orch.rollout.status import Command, CommandKind
from phoenix_orch.security.audit_chain import Entry, Outcome, Record
from phoenix_orch.security.audit_log import AuditLog
from phoenix_orch.security.recorder import Recorder

pytestmark = pytest.mark.anyio
METHODS = {
    name: found
    for name, found in vars(Operations).items()
    if inspect.iscoroutinefunction(found) and not name.startswith("_")
}
CHANGING = [name for name, found in METHODS.items() if "actor" in inspect.signature(found).parameters]
READS = [name for name in METHODS if name not in CHANGING]
GIVEN: dict[str, Any] = {
    "name": "web",
    "config": config(),
    "version": "2",
    "env": {"PLAIN": SECRET},
    "command": ("serve", "--token", SECRET, "{port}"),
    "change_cause": f"password={SECRET}",
    "reason": f"password={SECRET}",
    "to_revision": 1,
    "actor": "ann",
    "dry_run": False,
    "kind": CommandKind.PROMOTE,
    "limit": 1,
    "since": None,
    "instance": None,
    "lines": 1,
    "after": {},
}


def arguments(method: str) -> dict[str, Any]:
    """One for each parameter that has to be given, and `dry_run`."""
    found = inspect.signature(METHODS[method]).parameters.values()
    return {
        one.name: GIVEN[one.name]
        for one in found
        if one.name != "self" and (one.default is one.empty or one.name == "dry_run")
    }


class Inner:
    """Operations that do what they are told, and remember that they were asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: PhoenixError | None = None
        self.meanwhile: Callable[[], None] = lambda: None

    @property
    def flow(self) -> Flow:
        return Flow(*[None] * 4)  # type: ignore[arg-type]

    def __getattr__(self, method: str) -> Any:
        async def answer(*_: Any, **__: Any) -> Any:
            self.asked.append(method)
            self.meanwhile()
            if self.error is not None:
                raise self.error
            return self._answer(method)

        return answer

    @staticmethod
    def _answer(method: str) -> Any:
        change = Change(kind=ChangeKind.RELEASE, target="rollout/web", detail="", revision="r2", version="2")
        command = Command(id="c1", kind=CommandKind.PROMOTE, actor="ann", at="2026-01-01T00:00:00Z")  # type: ignore[arg-type]
        return {"apply": [change], "start": change, "undo": change, "command": command}.get(method)


class Disk(AuditLog):
    full = False

    def append(self, entries: Sequence[Entry]) -> list[Record]:
        if self.full:
            raise Retryable("the audit log cannot be written: No space left on device")
        return super().append(entries)


class World:
    def __init__(self, directory: Path) -> None:
        self.inner, self.disk = Inner(), Disk(directory)
        self.recorder = Recorder(self.disk)
        self.operations = AuditedOperations(
            self.inner, self.recorder, standing=self._standing, applied=lambda: None
        )

    async def _standing(self, name: str) -> dict[str, Any]:
        return {"state": "Idle", "name": name}

    async def ask(self, method: str, **given: Any) -> Any:
        return await getattr(self.operations, method)(**arguments(method) | given)

    def told(self) -> list[tuple[str, str]]:
        return [(one.action, one.outcome) for one in self.disk.newest(100)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_port_is_covered() -> None:
    assert set(CHANGING) >= {"apply", "start", "undo", "command", "restart"}
    assert set(METHODS) <= set(dir(AuditedOperations))


@pytest.mark.parametrize("method", READS)
async def test_a_read_leaves_no_record(world: World, method: str) -> None:
    await world.ask(method)
    assert (world.inner.asked, world.told()) == ([method], [])


@pytest.mark.parametrize("method", CHANGING)
async def test_a_change_is_recorded_before_and_after(world: World, method: str) -> None:
    seen: list[int] = []
    world.inner.meanwhile = lambda: seen.append(len(world.told()))
    await world.ask(method)
    asked, done = world.disk.newest(100)
    assert (asked.outcome, done.outcome) == (Outcome.ASKED, Outcome.DONE)
    assert asked.action == done.action
    assert asked.actor == done.actor == "ann"
    assert asked.target in {"rollout/web", "service/web", "config"}
    assert SECRET not in world.disk.files()[0].read_text("utf-8")
    if method != "undo":  # it may be an abort, which waits for no record
        assert (seen, done.asked) == ([1], asked.seq)


@pytest.mark.parametrize("method", CHANGING)
async def test_a_refusal_is_recorded(world: World, method: str) -> None:
    world.inner.error = BadState("not now")
    with pytest.raises(BadState):
        await world.ask(method)
    await world.recorder.drain()
    last = world.disk.newest(1)[0]
    assert (last.outcome, last.reason) == (Outcome.REFUSED, "not now")


@pytest.mark.parametrize(
    "method", [one for one in CHANGING if "dry_run" in inspect.signature(METHODS[one]).parameters]
)
async def test_a_dry_run_leaves_no_record(world: World, method: str) -> None:
    await world.ask(method, dry_run=True)
    assert (world.inner.asked, world.told()) == ([method], [])


@pytest.mark.parametrize("method", [one for one in CHANGING if one != "undo"])
async def test_nothing_is_done_that_cannot_be_recorded(world: World, method: str) -> None:
    world.disk.full = True
    with pytest.raises(Retryable, match="No space left"):
        await world.ask(method)
    assert world.inner.asked == []


@pytest.mark.parametrize(
    ("method", "given"),
    [("command", {"kind": CommandKind.ABORT}), ("command", {"kind": CommandKind.PAUSE}), ("undo", {})],
    ids=["abort", "pause", "undo"],
)
async def test_r2_taking_back_waits_for_no_record(world: World, method: str, given: dict[str, Any]) -> None:
    world.disk.full = True
    await world.ask(method, **given)
    assert world.inner.asked == [method]
    world.disk.full = False
    await world.recorder.drain()
    assert [outcome for _, outcome in world.told()] == [Outcome.ASKED, Outcome.DONE]


FLOW = [
    name
    for name, found in vars(Flow).items()
    if inspect.iscoroutinefunction(found) and "actor" in inspect.signature(found).parameters
]
INSIDE = {"override", "_tell_all"}
"""Called by what is recorded already."""


def test_every_word_about_freezes_is_recorded() -> None:
    assert set(FLOW) - INSIDE <= set(vars(AuditedFlow))


@pytest.mark.parametrize("method", sorted(set(FLOW) - INSIDE))
async def test_a_refused_word_about_a_freeze_is_recorded(world: World, method: str) -> None:
    asked = {"name": "noon", "reason": " ", "actor": "ann", "dry_run": False}
    more: dict[str, Any] = {"until": None, "lasting": None, "rollouts": (), "under_way": "continue"}
    found = inspect.signature(vars(Flow)[method]).parameters
    with pytest.raises((PhoenixError, AttributeError, TypeError)):  # there is nothing behind it here
        await getattr(world.operations.flow, method)(
            **{name: value for name, value in (asked | more).items() if name in found}
        )
    await world.recorder.drain()
    first, last = world.disk.newest(2)
    assert (first.outcome, first.actor, last.asked) == (Outcome.ASKED, "ann", first.seq)
    assert last.outcome in {Outcome.REFUSED, Outcome.FAILED}


async def test_an_apply_tells_what_it_changes(world: World) -> None:
    before, after = differing(config(replicas=2), config(replicas=3))
    assert (before, after) == ({"services.web": {"replicas": 2}}, {"services.web": {"replicas": 3}})
    assert differing(config(), config()) == (None, None)
    await world.ask("apply")
    wanted = world.disk.newest(2)[0].after
    assert wanted["services.web"]["version"] == "1"
    assert wanted["services.web"]["env"] == {"TOKEN": "<masked>"}

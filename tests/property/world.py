"""A simulated world for the rollout state machine: traffic, data plane, instances, store, time, people.

It obeys decisions as the controller does, one action after another, and can be cut off between any two
of them. The traffic object follows the very rules of the real routers. Faults are plain attributes and
methods; nothing happens by itself but in `breathe`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from phoenix_orch.health_validator.observation import Verdict, VerdictKind
from phoenix_orch.kernel.errors import Conflict, Latched
from phoenix_orch.rollout.facts import Decision, GroupFacts, Observed, TrafficFacts, TrafficWanted
from phoenix_orch.rollout.machine import decide
from phoenix_orch.rollout.spec import Phase, Policy, RolloutSpec
from phoenix_orch.rollout.status import (
    ACTIVE,
    RESTING,
    Cause,
    Command,
    CommandKind,
    Release,
    State,
    Status,
    Verification,
    VerifyStep,
)
from phoenix_orch.traffic import rules
from phoenix_orch.traffic.router import Backend, Group, TrafficState

ROUTE = "shop"
START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FIVE = 5 * MINUTE

LONG = (
    Phase(name="small", weight=10, duration=FIVE),
    Phase(name="large", weight=50, duration=FIVE),
    Phase(name="full", step=50, every=FIVE),
)
SHORT = (Phase(name="only", weight=25, duration=FIVE),)


def spec_of(*, phases: tuple[Phase, ...] = LONG, **policy: object) -> RolloutSpec:
    """A short walk, so that whole releases fit into one example."""
    defaults = {"bake": 2 * FIVE, "hold_timeout": 6 * FIVE, "progress_deadline": 2 * FIVE}
    return RolloutSpec(phases=phases, policy=Policy(**(defaults | policy)))  # type: ignore[arg-type]


class Crash(Exception):
    """The process ends here; what is only in its memory is lost."""


@dataclass
class Runs:
    """One instance."""

    name: str
    revision: str
    ready: bool = False
    draining: bool = False


Watch = Callable[["World", Status, Observed, Decision], None]


@dataclass
class World:
    """Everything outside of `decide`. `watch` sees each decision before it is carried out."""

    spec: RolloutSpec = field(default_factory=spec_of)
    target: str = "v1"
    fast: bool = False
    replicas: int = 3
    now: datetime = START
    watch: Watch = lambda *_: None

    # the store
    stored: Status = field(default_factory=Status)
    commands: tuple[Command, ...] = ()
    history: dict[int, Release] = field(default_factory=dict)
    verdict: Verdict | None = None
    causes: dict[str, Cause] = field(default_factory=dict)
    verification: Verification | None = None

    # traffic, data plane, instances
    object: TrafficState | None = None
    in_force: TrafficState | None = None
    instances: list[Runs] = field(default_factory=list)
    wanted: dict[str, int] = field(default_factory=dict)

    # faults
    store_away: bool = False
    hide_traffic: bool = False
    hide_workload: bool = False
    hide_seen: bool = False
    nameless: bool = False
    frozen: bool = False
    unwritable: bool = False
    """The traffic object can be read, and no write arrives."""
    bad: set[str] = field(default_factory=set)
    """Revisions whose instances never get ready."""
    failing: set[str] = field(default_factory=set)
    """Kinds of verification that fail."""

    memory: Status | None = None
    """What the running process decided while the store was away."""
    asked: str | None = None
    serial: int = 0
    latches: set[str] = field(default_factory=set)
    """Revisions latched and not forgiven by a person since: what R4 is checked against."""
    raised: list[str] = field(default_factory=list)
    """Latched revisions that a write let carry traffic. Stays empty."""

    # -- what the process sees ---------------------------------------------------------------------

    def status(self) -> Status:
        """What a pass starts from."""
        return self.memory if self.store_away and self.memory is not None else self.stored

    def observe(self) -> Observed:
        """The world as far as it can be seen now."""
        traffic = None
        if self.object is not None and not self.hide_traffic:
            traffic = self._facts(self.object)
        judged = self.status().canary or self.status().stable or ""
        return Observed(
            target=self.target,
            replicas=self.replicas,
            fast=self.fast,
            workload=None if self.hide_workload else self._groups(),
            traffic=traffic,
            traffic_missing=self.object is None and not self.hide_traffic,
            verdict=None if self.store_away else self.verdict,
            cause=None if self.store_away else self.causes.get(judged),
            verification=None if self.store_away else self.verification,
            commands=self.commands,
        )

    def _facts(self, found: TrafficState) -> TrafficFacts:
        force = None if self.hide_seen else self.in_force
        shared = rules.share(force) if force is not None else None
        named = force is not None and not self.nameless
        return TrafficFacts(
            stable=found.stable.revision,
            canary=found.canary.revision if found.canary else None,
            previous=found.previous.revision if found.previous else None,
            weight=found.weight,
            aborted=found.aborted,
            seen=shared,
            seen_canary=force.canary.revision if named and force and force.canary else None,
            seen_stable=force.stable.revision if named and force else None,
        )

    def _groups(self) -> Mapping[str, GroupFacts]:
        revisions = {one.revision for one in self.instances}
        return {
            r: GroupFacts(
                present=sum(one.revision == r for one in self.instances),
                ready=sum(one.revision == r and one.ready and not one.draining for one in self.instances),
            )
            for r in revisions
        }

    def serving(self) -> set[str]:
        """Revisions that the traffic object or the data plane truly uses.

        A data plane that does not name revisions cannot show which stable it serves: there instances
        are kept by their addresses alone, which `breathe` checks as workloads do.
        """
        found: set[str] = set()
        for state in (self.object, self.in_force):
            if state is not None:
                if state is self.object or not self.nameless:
                    found.add(state.stable.revision)
                if state.canary is not None and rules.share(state) > 0:
                    found.add(state.canary.revision)
        return found

    # -- one pass of the controller ----------------------------------------------------------------

    def run_pass(self, *, meanwhile: Callable[[int], None] = lambda _: None) -> Decision:
        """Observe, decide, act. `meanwhile` is called before each action and may raise Crash or Conflict."""
        status, seen, read = self.status(), self.observe(), self.object
        decision = decide(self.spec, status, seen, self.now)
        self.watch(self, status, seen, decision)
        actions = self._actions(decision, seen, None if self.hide_traffic else read)
        try:
            for number, action in enumerate(actions):
                meanwhile(number)
                action()
        except Crash:
            self.memory = None
        except Conflict:
            pass  # decided on old knowledge: the pass ends, the next one looks again
        return decision

    def _actions(
        self, decision: Decision, seen: Observed, read: TrafficState | None
    ) -> list[Callable[[], None]]:
        found: list[Callable[[], None]] = []
        if decision.abort is not None:
            found.append(lambda: self.abort(decision.abort or ""))
        found.append(lambda: self._save(decision))
        if decision.clear_latch is not None:
            found.append(lambda: self._clear(decision.clear_latch or ""))
        for revision in sorted(
            set(self.wanted if seen.workload is not None else ()) | set(decision.instances)
        ):
            count = decision.instances.get(revision, 0)
            found.append(lambda revision=revision, count=count: self._scale(revision, count))  # type: ignore[misc]
        wanted = decision.traffic
        if wanted is not None and seen.workload is not None:
            found.append(lambda: self._steer(wanted, read))
        if decision.verify is not None:
            found.append(lambda: self._verify(decision.verify or ""))
        return found

    def _save(self, decision: Decision) -> None:
        forgiven = decision.clear_latch
        if forgiven is not None:
            self.latches.discard(forgiven)
        if self.store_away:
            self.memory = decision.status
            return
        self.stored, self.memory = decision.status, None
        self.commands = tuple(c for c in self.commands if c.id not in decision.status.handled)
        if decision.release is not None:
            number = decision.release.number
            assert number not in self.history, f"release {number} ended twice"
            self.history[number] = decision.release

    def _clear(self, revision: str) -> None:
        if not self.store_away:
            self.causes.pop(revision, None)
        if self.object is None or self.hide_traffic or self.unwritable:
            raise Conflict("the router does not answer: the pass ends")
        self.object = rules.cleared(self.object, revision)

    def _scale(self, revision: str, count: int) -> None:
        self.wanted[revision] = count
        if count == 0:
            del self.wanted[revision]
        running = [one for one in self.instances if one.revision == revision and not one.draining]
        for one in sorted(running, key=lambda one: one.ready)[: max(0, len(running) - count)]:
            one.draining = True
        for _ in range(count - len(running)):
            self.serial += 1
            self.instances.append(Runs(f"{revision}-{self.serial}", revision))

    def _steer(self, wanted: TrafficWanted, read: TrafficState | None) -> None:
        following = self._following(wanted, read)
        if following is None or following == read:
            return
        if self.hide_traffic or self.unwritable:
            raise Conflict("the router does not answer: the pass ends")
        try:
            self.object = rules.written(self.object, following)
        except Latched as error:
            raise AssertionError(f"R4: asked for it knowing of the latch: {error}") from error
        carries = {self.object.stable.revision}
        if self.object.canary is not None and self.object.weight > 0:
            carries.add(self.object.canary.revision)
        carried = {read.stable.revision} if read is not None else set()
        self.raised.extend((carries - carried) & self.latches)

    def _following(self, wanted: TrafficWanted, read: TrafficState | None) -> TrafficState | None:
        stable = self._ready(wanted.stable)
        if not stable.backends:
            old = [g for g in (read.stable, read.canary, read.previous) if g] if read is not None else []
            kept = [g for g in old if g.revision == wanted.stable and g.backends]
            if not kept:
                return None
            stable = kept[0]
        canary = self._ready(wanted.canary) if wanted.canary is not None else None
        return TrafficState(
            route=ROUTE,
            version=read.version if read is not None else 0,
            stable=stable,
            canary=canary,
            previous=self._ready(wanted.previous) if wanted.previous is not None else None,
            weight=wanted.weight if canary is not None and canary.backends else 0,
            aborted=read.aborted if read is not None else (),
        )

    def _ready(self, revision: str) -> Group:
        names = sorted(
            o.name for o in self.instances if o.revision == revision and o.ready and not o.draining
        )
        return Group(
            revision=revision,
            backends=tuple(Backend(instance=name, url=f"http://127.0.0.1/{name}") for name in names),
        )

    def _verify(self, kind: str) -> None:
        self.asked = kind

    # -- the world goes on -------------------------------------------------------------------------

    def breathe(self, duration: timedelta = timedelta(0)) -> None:
        """Let time pass: instances start and end, the data plane follows, verifications finish."""
        self.now += duration
        if not self.frozen:
            self.in_force = self.object
        routed = self._routed()
        self.instances = [one for one in self.instances if not one.draining or one.name in routed]
        for one in self.instances:
            one.ready = one.ready or one.revision not in self.bad
        if self.asked is not None and not self.store_away:
            step = VerifyStep(name="health", ok=self.asked not in self.failing, detail="")
            self.verification = Verification(
                kind=self.asked,
                revision=self.stored.stable or "",
                release=self.stored.release,
                at=self.now,
                steps=(step,),
            )
            self.asked = None

    def _routed(self) -> set[str]:
        return {
            backend.instance
            for state in (self.object, self.in_force)
            if state is not None
            for group in (state.stable, state.canary, state.previous)
            if group is not None
            for backend in group.backends
        }

    def judge(self, kind: VerdictKind = VerdictKind.ADVANCE) -> None:
        """The validator says `kind` about what it is to judge now."""
        status = self.stored
        judged = status.canary if status.state in ACTIVE else status.stable
        if judged is not None and not self.store_away:
            self.verdict = Verdict(
                kind=kind, revision=judged, step=status.step, at=self.now, reason=f"{kind.value}"
            )

    # -- other people's hands ----------------------------------------------------------------------

    def command(self, kind: CommandKind) -> Command:
        """A person says something; it stays in the record until it was handled."""
        self.serial += 1
        said = Command(id=f"c{self.serial}", kind=kind, actor="operator", at=self.now)
        self.commands = (*self.commands, said)
        return said

    def abort(self, revision: str) -> None:
        """`TrafficRouter.abort`, by whoever calls it. Without an object, or access to it: nothing."""
        if self.object is None or self.hide_traffic or self.unwritable:
            return
        self.latches.add(revision)
        self.object = rules.aborted(self.object, revision)

    def meddle(self, weight: int) -> None:
        """Somebody edits the weight by hand, past all rules."""
        if self.object is not None:
            self.object = self.object.model_copy(
                update={"weight": weight if self.object.canary else 0, "version": self.object.version + 1}
            )

    def delete_object(self) -> None:
        """The traffic object is gone, latches and all."""
        self.object = self.in_force = None
        self.latches.clear()

    def lose_instance(self, revision: str) -> None:
        """One instance of `revision` crashes; it is started again."""
        for one in self.instances:
            if one.revision == revision and one.ready:
                one.ready = False
                return

    def heal(self) -> None:
        """All faults end, also those of the programs."""
        self.store_away = self.hide_traffic = self.hide_workload = self.hide_seen = False
        self.nameless = self.frozen = self.unwritable = False
        self.memory = None
        self.bad.clear()
        self.failing.clear()

    # -- running on --------------------------------------------------------------------------------

    def at_rest(self) -> bool:
        """The rollout waits for a person or for a new revision."""
        return self.stored.state in RESTING | {State.PAUSED}

    def settle(self, kind: VerdictKind = VerdictKind.ADVANCE, passes: int = 400) -> None:
        """Run a world that says `kind` of every release until nothing changes any more.

        Raises AssertionError when it does not come to rest within `passes` minutes.
        """
        quiet = 0
        for _ in range(passes):
            before = (self.stored.state, self.stored.release, self.object, len(self.instances))
            self.breathe(MINUTE)
            self.judge(kind)
            self.run_pass()
            after = (self.stored.state, self.stored.release, self.object, len(self.instances))
            quiet = quiet + 1 if self.at_rest() and before == after else 0
            if quiet > 3:
                return
        raise AssertionError(f"no rest after {passes} passes: {self.picture()}")

    def picture(self) -> str:
        """For a failing test."""
        return f"{self.stored!r} object={self.object!r} instances={self._groups()} wanted={self.wanted}"


def running(target: str = "v1", **changes: object) -> World:
    """A world in which the first revision serves."""
    world = replace(World(target=target), **changes)  # type: ignore[arg-type]
    world.settle()
    assert world.stored.state is State.IDLE
    return world

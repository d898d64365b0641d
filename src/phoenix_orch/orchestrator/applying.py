"""Make what a configuration says the thing that is wanted: check all of it, then write all of it.

A revision is released when the file asks for another one than it asked for last time. A restart of
Phoenix with the same file therefore changes nothing, also after `rollout start` or `undo` by hand.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import structlog
from pydantic import ValidationError

from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import Conflict, Invalid, Latched, NotFound, Retryable
from phoenix_orch.kernel.text import counted
from phoenix_orch.orchestrator.attainable import refuse_unattainable
from phoenix_orch.orchestrator.beside_rollouts import beside_rollouts
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.declared import (
    Declared,
    check_all_steered,
    declared,
    merge,
    route_address,
    route_call,
)
from phoenix_orch.orchestrator.kept_config import keeping, kept_text, read_kept, read_replaceable
from phoenix_orch.orchestrator.refounding import Foundation, Refounding
from phoenix_orch.orchestrator.serving import with_template
from phoenix_orch.orchestrator.views import Change, ChangeKind
from phoenix_orch.rollback_controller.checks import Route
from phoenix_orch.rollout.groups import in_order
from phoenix_orch.rollout.status import ACTIVE, Event, Revision, Rollout
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.traffic.router import TrafficRouter
from phoenix_orch.traffic.spec import RouterSpec, RouteSpec
from phoenix_orch.workload.spec import Template
from phoenix_orch.workload.workload import Workload

PUT_TRIES = 5

_log = structlog.get_logger("phoenix")


class RoutingTable(TrafficRouter, Protocol):
    """A router that also has to be told which requests each route takes."""

    async def declare_all(self, specs: Mapping[str, RouteSpec]) -> None:
        """Raises Invalid, and then nothing has been declared."""
        ...


class Applying:
    """Applies configurations and remembers the last one, in full, in a file."""

    def __init__(
        self,
        *,
        store: RolloutStore,
        router: RoutingTable,
        workload: Workload,
        clock: Clock,
        kept: Path,
        anew: bool = False,
        remembered: Callable[[str], Template | None] = lambda _: None,
    ) -> None:
        """`anew`: a configuration will be applied at once, so a `kept` that cannot be read may be lost.
        `remembered`: what the last release of a service that succeeded has left; None: not known.

        Raises Invalid when it cannot be read otherwise.
        """
        self._store = store
        self._router = router
        self._workload = workload
        self._clock = clock
        self._kept = kept
        self._ruling: PhoenixFile | None = None
        self._remembered = remembered
        self._refounding = Refounding(store, router, workload, clock, remembered)
        self._config: PhoenixFile | None = read_replaceable(kept) if anew else read_kept(kept)

    @property
    def config(self) -> PhoenixFile | None:
        """What was applied last, everything that is not taken away included."""
        return self._config

    @property
    def ruling(self) -> PhoenixFile | None:
        """The configuration whose freezes and groups hold now."""
        return self._ruling or self._config

    @property
    def text(self) -> str | None:
        """What the file of it holds; None where nothing was applied."""
        return kept_text(self._config) if self._config is not None else None

    @property
    def router_spec(self) -> RouterSpec:
        return self._config.router if self._config is not None else RouterSpec()

    def address(self, route: str) -> str:
        """Where users call a route; empty for one nobody has declared."""
        known = self._config is not None and route in self._config.routes
        return route_address(self._config, route) if known and self._config else ""

    def call_address(self, route: str) -> Route:
        """How to reach a route from this machine."""
        known = self._config
        return route_call(known, route) if known and route in known.routes else Route(self.router_spec.url)

    async def apply(
        self,
        config: PhoenixFile,
        *,
        actor: str,
        dry_run: bool = False,
        starting: bool = False,
        even_if_unattainable: bool = False,
    ) -> list[Change]:
        """Check all, then write all. What the file does not name is left as it is.

        `starting`: the router is not running yet, so its address may change, and Phoenix starts whatever
        limits are in the file. `even_if_unattainable`: release although stable does not keep the limits.
        """
        merged = merge(self._config, config)
        every = declared(config)
        check_all_steered(config, every)
        if not starting:
            self._refuse_router_change(config)
        existing = {rollout.name: rollout for rollout in await self._store.rollouts()}
        lost = await self._foundations(every, existing)
        for name, found in lost.items():
            existing[name] = found.rollout
        begun = {one.name: one if one.name in existing else self._begun(one) for one in every}
        plans = [(begun[wanted.name], existing.get(wanted.name)) for wanted in every]
        changes = [await self._plan(wanted, rollout) for wanted, rollout in plans]
        if not (starting or even_if_unattainable):
            for (wanted, rollout), change in zip(plans, changes, strict=True):
                if rollout is not None and _begins_a_release(rollout, change):
                    await refuse_unattainable(self._store, self._clock, rollout, wanted.spec)
        unnamed = [
            Change(kind=ChangeKind.NONE, target=f"rollout/{name}", detail="not in this file; left as it is")
            for name in sorted(set(existing) - {wanted.name for wanted in every})
        ]
        beside = beside_rollouts(self._config, merged, starting=starting)
        planned = {
            wanted.name: (begun[wanted.name], wanted.revision, change)
            for wanted, change in zip(every, changes, strict=True)
        }
        if not dry_run:
            with self._ruled_by_new(), keeping(self._kept, merged) as keep:
                await self._declare(every)
                existing |= await self._found_anew(lost)
                self._ruling = merged  # before anything is wanted that they may hold
                for name in in_order(merged.groups or (), [wanted.name for wanted in every]):
                    wanted, asked, change = planned[name]
                    await self._write(wanted, existing.get(name), change, actor, asked=asked)
                keep()
            self._config = merged
        return [*changes, *unnamed, *beside]

    @contextlib.contextmanager
    def _ruled_by_new(self) -> Iterator[None]:
        """While the body applies, its freezes and groups may hold already; afterwards those that are kept."""
        try:
            yield
        finally:
            self._ruling = None

    async def _foundations(
        self, every: tuple[Declared, ...], existing: Mapping[str, Rollout]
    ) -> dict[str, Foundation]:
        """What serves already of those that the store does not know."""
        known = declared(self._config) if self._config is not None else ()
        applied = {one.name: one.revision for one in known}
        found = {
            wanted.name: await self._refounding.find(wanted, applied.get(wanted.name))
            for wanted in every
            if wanted.name not in existing
        }
        return {name: one for name, one in found.items() if one is not None}

    async def _found_anew(self, lost: Mapping[str, Foundation]) -> dict[str, Rollout]:
        founded = {}
        for name, found in lost.items():
            founded[name] = await self._refounding.put(found)
            _log.warning(
                f"the store is new or empty: {found.rollout.status.message}", reason="StoreLost", rollout=name
            )
        return founded

    async def recover(self) -> tuple[str, ...]:
        """Found anew what was applied and is unknown to the store now; the names.

        Nothing ever removes a rollout, so that the store was lost, or another one was given.
        """
        known = declared(self._config) if self._config is not None else ()
        existing = {rollout.name: rollout for rollout in await self._store.rollouts()} if known else {}
        lost = tuple(wanted for wanted in known if wanted.name not in existing)
        if not lost:
            return ()
        founded = await self._found_anew(await self._foundations(lost, existing))
        for wanted in lost:
            if wanted.name not in founded:
                begun = self._begun(wanted)
                change = await self._plan(begun, None)
                await self._write(begun, None, change, "phoenix", asked=wanted.revision)
        return tuple(wanted.name for wanted in lost)

    def _begun(self, wanted: Declared) -> Declared:
        """What a rollout begins with of which nothing runs and the store knows nothing: its last release that
        succeeded, where that is remembered and the file asks for nothing but what it asked for before."""
        known = self._config.services.get(wanted.service) if self._config is not None else None
        kept = self._remembered(wanted.service)
        if known is None or kept is None or known.template().revision != wanted.revision:
            return wanted
        try:
            spec = with_template(wanted.service_spec, kept.model_dump(mode="json", by_alias=True))
        except ValidationError:
            return wanted
        return replace(wanted, service_spec=spec)

    async def _declare(self, every: tuple[Declared, ...]) -> None:
        """Tell router and workload. The router goes first: it refuses all or nothing."""
        await self._router.declare_all({wanted.route: wanted.route_spec for wanted in every})
        for wanted in every:
            await self._workload.declare(wanted.service, wanted.service_spec)

    async def declare_known(self) -> None:
        """Tell workload and router again what was applied before, after a start of Phoenix."""
        if self._config is None:
            return
        await self._declare(declared(self._config))

    def _refuse_router_change(self, config: PhoenixFile) -> None:
        if self._config is None or config.router == self._config.router:
            return
        raise Invalid(
            f"router.listen is {self._config.router.listen} while Phoenix runs; found {config.router.listen}",
            remedy="stop `phoenix up` and start it again with this file",
        )

    async def _plan(self, wanted: Declared, rollout: Rollout | None) -> Change:
        revision, version = wanted.revision, wanted.service_spec.version
        target = f"rollout/{wanted.name}"

        def change(kind: ChangeKind, detail: str) -> Change:
            return Change(kind=kind, target=target, detail=detail, revision=revision, version=version)

        if rollout is None:
            await self._refuse_latched(wanted.name, wanted.route, revision)
            count = counted(wanted.service_spec.replicas, "instance")
            return change(ChangeKind.CREATE, f"service {wanted.service}, {count}, route {wanted.route}")
        if (rollout.service, rollout.route) != (wanted.service, wanted.route):
            raise Invalid(
                f"{target} belongs to service {rollout.service} and route {rollout.route}; "
                f"found {wanted.service} and {wanted.route}",
                remedy="give the new pair a rollout with another name",
            )
        if revision not in (rollout.applied, rollout.target):
            await self._refuse_latched(rollout.name, rollout.route, revision)
            if revision == rollout.status.stable:
                return change(ChangeKind.RELEASE, f"back to stable, version {version}")
            return change(ChangeKind.RELEASE, f"version {version} is released step by step")
        if revision != rollout.applied:
            asked = f"the file asks for version {version}, which is wanted already"
            return change(ChangeKind.CONFIGURE, f"{asked}{await self._but_not_served(rollout, revision)}")
        if (rollout.spec, rollout.replicas) != (
            wanted.spec,
            wanted.service_spec.replicas,
        ) or await self._differs(wanted):
            why = "what is wanted changes; the revision stays"
            return change(ChangeKind.CONFIGURE, f"{why}{await self._but_not_served(rollout, revision)}")
        return change(ChangeKind.NONE, f"unchanged{await self._but_not_served(rollout, revision)}")

    async def _but_not_served(self, rollout: Rollout, revision: str) -> str:
        """The file asks for what it asked for before, and something has been decided since."""
        if rollout.status.stable in (None, revision) or rollout.status.state in ACTIVE:
            return ""
        try:
            latched = revision in (await self._router.read(rollout.route)).aborted
        except (NotFound, Retryable):
            latched = False
        why = "was rolled back and is latched" if latched else "was undone"
        return f", but this version {why}: revision {rollout.status.stable} serves"

    async def _differs(self, wanted: Declared) -> bool:
        """Drain time or route are other than applied last."""
        if self._config is None or wanted.service not in self._config.services:
            return True
        known = self._config.services[wanted.service]
        return (known.drain, self._config.routes.get(wanted.route)) != (
            wanted.service_spec.drain,
            wanted.route_spec,
        )

    async def _refuse_latched(self, name: str, route: str, revision: str) -> None:
        try:
            traffic = await self._router.read(route)
        except (NotFound, Retryable):
            return
        if revision in traffic.aborted:
            raise Latched(
                f"rollout/{name}: revision {revision} was rolled back and is latched",
                remedy=f"phoenix rollout retry {name}, or give the mended program another version",
            )

    async def _write(
        self, wanted: Declared, rollout: Rollout | None, change: Change, actor: str, *, asked: str
    ) -> None:
        """`asked`: the revision that the file asks for, which is another one where a rollout begins with what
        is remembered."""
        if change.kind is ChangeKind.NONE:
            return
        if rollout is None:
            _tell_beginning(wanted, remembered=wanted.revision != asked)
        template = wanted.service_spec.template()
        kept = Revision(
            revision=template.revision,
            number=0,
            version=template.version,
            at=self._clock.now(),
            change_cause=f"applied by {actor}",
            template=template.model_dump(mode="json", by_alias=True),
        )
        fields: dict[str, object] = {"spec": wanted.spec, "replicas": wanted.service_spec.replicas}
        if change.kind in (ChangeKind.CREATE, ChangeKind.RELEASE):
            fields |= {"target": template.revision, "applied": asked, "fast": False}
        elif rollout is not None and rollout.target == template.revision:
            fields["applied"] = template.revision  # started by hand before, and now in the file
        await self._put(wanted, rollout, fields, kept)
        event = Event(
            at=self._clock.now(),
            reason="Applied",
            message=change.detail,
            revision=template.revision,
            actor=actor,
        )
        await self._store.append_events(wanted.name, [event])

    async def _put(
        self, wanted: Declared, rollout: Rollout | None, fields: Mapping[str, object], kept: Revision
    ) -> None:
        """The template is kept before anything wants it."""
        for _ in range(PUT_TRIES):
            if rollout is None:
                base = Rollout(
                    name=wanted.name,
                    service=wanted.service,
                    route=wanted.route,
                    target=kept.revision,
                    applied=kept.revision,
                )
            else:
                base = rollout
            await self._store.add_revision(wanted.name, kept)
            try:
                await self._store.put(base.model_copy(update=dict(fields)))
            except Conflict:
                rollout = await self._store.get(wanted.name)
            else:
                return
        raise Retryable(f"{wanted.name} is being written by others all the time", remedy="try the same again")


def _tell_beginning(wanted: Declared, *, remembered: bool) -> None:
    """It comes up at full size without steps, so that everybody may know why it is this version."""
    why = (
        "nothing runs and the store does not know it: it begins with its last release that succeeded"
        if remembered
        else "no release of it is known here: it begins with the version that the file names"
    )
    _log.info(why, rollout=wanted.name, version=wanted.service_spec.version)


def _begins_a_release(rollout: Rollout, change: Change) -> bool:
    """A new revision is going to be judged; a return to stable is not."""
    return change.kind is ChangeKind.RELEASE and change.revision != rollout.status.stable

"""Make what a configuration says the thing that is wanted: check all of it, then write all of it.

A revision is released when the file asks for another one than it asked for last time. A restart of
Phoenix with the same file therefore changes nothing, also after `rollout start` or `undo` by hand.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog
from pydantic import ValidationError

from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import Conflict, Invalid, Latched, NotFound, Retryable
from phoenix_orch.orchestrator.attainable import refuse_unattainable
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.layout import write_whole
from phoenix_orch.orchestrator.views import Change, ChangeKind
from phoenix_orch.rollback_controller.checks import Route
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import Event, Revision, Rollout
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.traffic.router import TrafficRouter
from phoenix_orch.traffic.spec import RouterSpec, RouteSpec
from phoenix_orch.workload.spec import ServiceSpec
from phoenix_orch.workload.workload import Workload

PUT_TRIES = 5

_log = structlog.get_logger("phoenix")


class RoutingTable(TrafficRouter, Protocol):
    """A router that also has to be told which requests a route takes."""

    async def declare(self, route: str, spec: RouteSpec) -> None: ...


@dataclass(frozen=True, slots=True)
class Declared:
    """One rollout of a configuration with all it stands on."""

    name: str
    service: str
    service_spec: ServiceSpec
    route: str
    route_spec: RouteSpec
    spec: RolloutSpec

    @property
    def revision(self) -> str:
        return self.service_spec.template().revision


def declared(config: PhoenixFile) -> tuple[Declared, ...]:
    """The rollouts of a configuration, in the order of the file."""
    found = []
    for name, entry in config.effective_rollouts().items():
        service, route = entry.service or name, entry.route or ""
        found.append(
            Declared(
                name=name,
                service=service,
                service_spec=config.services[service],
                route=route,
                route_spec=config.routes[route],
                spec=entry.spec(),
            )
        )
    return tuple(found)


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
    ) -> None:
        """`anew`: a configuration will be applied at once, so a `kept` that cannot be read may be lost.

        Raises Invalid when it cannot be read otherwise.
        """
        self._store = store
        self._router = router
        self._workload = workload
        self._clock = clock
        self._kept = kept
        self._config: PhoenixFile | None = _read_or_put_aside(kept) if anew else read_kept(kept)

    @property
    def config(self) -> PhoenixFile | None:
        """What was applied last, everything that is not taken away included."""
        return self._config

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
        _all_steered(config, every)
        if not starting:
            self._refuse_router_change(config)
        existing = {rollout.name: rollout for rollout in await self._store.rollouts()}
        plans = [(wanted, existing.get(wanted.name)) for wanted in every]
        changes = [await self._plan(wanted, rollout) for wanted, rollout in plans]
        if not (starting or even_if_unattainable):
            for (wanted, rollout), change in zip(plans, changes, strict=True):
                if rollout is not None and _begins_a_release(rollout, change):
                    await refuse_unattainable(self._store, self._clock, rollout, wanted.spec)
        unnamed = [
            Change(kind=ChangeKind.NONE, target=f"rollout/{name}", detail="not in this file; left as it is")
            for name in sorted(set(existing) - {wanted.name for wanted in every})
        ]
        if not dry_run:
            await self._declare(every)
            for (wanted, rollout), change in zip(plans, changes, strict=True):
                await self._write(wanted, rollout, change, actor)
            self._keep(merged)
        return [*changes, *unnamed]

    async def _declare(self, every: tuple[Declared, ...]) -> None:
        """Tell workload and router. What the router refuses is refused before anything is stored.

        A route may take over requests that another one gives up in the same file, in whatever order.
        """
        waiting = list(every)
        while waiting:
            refusal: Invalid | None = None
            refused = []
            for wanted in waiting:
                try:
                    await self._router.declare(wanted.route, wanted.route_spec)
                except Invalid as error:
                    refusal = error
                    refused.append(wanted)
            if refusal is not None and len(refused) == len(waiting):
                await self._declare_routes_as_known()
                raise refusal
            waiting = refused
        for wanted in every:
            await self._workload.declare(wanted.service, wanted.service_spec)

    async def _declare_routes_as_known(self) -> None:
        """Take back what was declared of a configuration that is refused."""
        for known in declared(self._config) if self._config is not None else ():
            with contextlib.suppress(Invalid):
                await self._router.declare(known.route, known.route_spec)

    def _keep(self, merged: PhoenixFile) -> None:
        try:
            write_whole(self._kept, merged.model_dump_json(by_alias=True, indent=1))
        except OSError as error:
            raise Retryable(
                f"what was applied cannot be written to {self._kept}: {error.strerror}",
                remedy="mend that and apply the same again",
            ) from error
        self._config = merged

    async def declare_known(self) -> None:
        """Tell workload and router again what was applied before, after a start of Phoenix."""
        if self._config is None:
            return
        for known in declared(self._config):
            await self._workload.declare(known.service, known.service_spec)
            await self._router.declare(known.route, known.route_spec)

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
            count = wanted.service_spec.replicas
            return change(
                ChangeKind.CREATE, f"service {wanted.service}, {count} instances, route {wanted.route}"
            )
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
            return change(
                ChangeKind.CONFIGURE, f"the file asks for version {version}, which is wanted already"
            )
        if (rollout.spec, rollout.replicas) != (
            wanted.spec,
            wanted.service_spec.replicas,
        ) or await self._differs(wanted):
            return change(ChangeKind.CONFIGURE, "what is wanted changes; the revision stays")
        return change(ChangeKind.NONE, "unchanged")

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

    async def _write(self, wanted: Declared, rollout: Rollout | None, change: Change, actor: str) -> None:
        if change.kind is ChangeKind.NONE:
            return
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
            fields |= {"target": template.revision, "applied": template.revision, "fast": False}
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


def _begins_a_release(rollout: Rollout, change: Change) -> bool:
    """A new revision is going to be judged; a return to stable is not."""
    return change.kind is ChangeKind.RELEASE and change.revision != rollout.status.stable


def route_address(config: PhoenixFile, route: str) -> str:
    """Where users call a route: base address and path prefix, without a slash at the end."""
    spec = config.routes[route]
    base = config.router.url
    if spec.host is not None:
        base = f"http://{spec.host}:{config.router.port}"
    return base + (spec.path_prefix if spec.path_prefix != "/" else "")


def route_call(config: PhoenixFile, route: str) -> Route:
    """How a route is called on this machine, where the names of its users' hosts may lead nowhere."""
    spec = config.routes[route]
    return Route(config.router.url + spec.path_prefix.rstrip("/"), spec.host)


def merge(known: PhoenixFile | None, new: PhoenixFile) -> PhoenixFile:
    """`new` laid over what is known: a file that names less takes nothing away.

    Raises Invalid when the two together contradict each other.
    """
    if known is None:
        return new
    together = {
        "services": {**known.services, **new.services},
        "routes": {**known.routes, **new.routes},
        "rollouts": {**known.rollouts, **new.rollouts},
    }
    try:
        return PhoenixFile.model_validate(
            new.model_copy(update=together).model_dump(mode="json", by_alias=True)
        )
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise Invalid(
            f"the file does not fit what is applied already: {faults}",
            remedy="`phoenix get services` shows what runs; rename what clashes",
        ) from None


def _all_steered(config: PhoenixFile, every: tuple[Declared, ...]) -> None:
    """A route that no rollout steers would be in the file and yet answer nobody."""
    steered = {wanted.route for wanted in every}
    for name, route in config.routes.items():
        if name not in steered:
            raise Invalid(
                f"route {name!r} leads to service {route.service!r}, which is released by another route; "
                "a rollout steers one",
                remedy=f"give {name!r} a service of its own, or leave it out",
            )


def read_kept(path: Path) -> PhoenixFile | None:
    """The configuration applied last, or None where none was. Raises Invalid for what cannot be read."""
    try:
        return PhoenixFile.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}", remedy="mend its rights") from error
    except (ValidationError, UnicodeDecodeError):  # their text would repeat the environment of services
        raise Invalid(
            f"{path} does not hold a configuration of this version of Phoenix",
            remedy="start with -f and the configuration file; it is written anew",
        ) from None


def _read_or_put_aside(path: Path) -> PhoenixFile | None:
    try:
        return read_kept(path)
    except Invalid as error:
        aside = path.with_name(path.name + ".unreadable")
        with contextlib.suppress(OSError):
            path.replace(aside)
        _log.warning(error.message, kept_as=str(aside))
        return None

"""What a configuration declares, rollout by rollout, and how its routes are called. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.rollback_controller.checks import Route
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.traffic.spec import RouteSpec
from phoenix_orch.workload.spec import ServiceSpec


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
        "freezes": known.freezes if new.freezes is None else new.freezes,
        "groups": known.groups if new.groups is None else new.groups,
        "tasks": known.tasks if new.tasks is None else new.tasks,
        "audit": known.audit if new.audit is None else new.audit,
        "backup": known.backup if new.backup is None else new.backup,
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


def check_all_steered(config: PhoenixFile, every: tuple[Declared, ...]) -> None:
    """A route that no rollout steers would be in the file and yet answer nobody. Raises Invalid."""
    steered = {wanted.route for wanted in every}
    for name, route in config.routes.items():
        if name not in steered:
            raise Invalid(
                f"route {name!r} leads to service {route.service!r}, which is released by another route; "
                "a rollout steers one",
                remedy=f"give {name!r} a service of its own, or leave it out",
            )

"""phoenix.yaml: the services of one machine, how they are reached and how they are released."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from phoenix_orch.kernel import config, model_shape
from phoenix_orch.kernel.config_file import read
from phoenix_orch.kernel.masking import masks_in
from phoenix_orch.kernel.quoting import Quotes
from phoenix_orch.kernel.units import Duration
from phoenix_orch.orchestrator.api_spec import ApiSpec, absolute
from phoenix_orch.recovery.spec import BackupSpec
from phoenix_orch.rollout.freezes import Freeze
from phoenix_orch.rollout.groups import Group, circle
from phoenix_orch.rollout.rules_file import MOST_RULES
from phoenix_orch.rollout.spec import Model, Name, RolloutSpec
from phoenix_orch.tasks.command_spec import CommandTask
from phoenix_orch.traffic.spec import RouterSpec, RouteSpec
from phoenix_orch.workload.spec import ServiceSpec

SCHEMA_ID = "https://phoenix-orch.io/v1alpha1/phoenix.schema.json"
SCHEMA_URL = "https://json-schema.org/draft/2020-12/schema"

SHORTEST_RETENTION = timedelta(days=1)
LONGEST_RETENTION = timedelta(days=36_500)


class RolloutEntry(RolloutSpec):
    """One entry of `rollouts`: how new versions of a service are released."""

    service: Name | None = None
    """The service that is released; left out: the service with this entry's name."""
    route: Name | None = None
    """The route that is steered; left out: the one route that leads to the service."""

    def spec(self) -> RolloutSpec:
        return RolloutSpec.model_validate({name: getattr(self, name) for name in RolloutSpec.model_fields})


class StatusPage(Model):
    """The public page that says whether everything works."""

    directory: str = Field(min_length=1, max_length=4000)
    """Where its files are written, every half minute; a relative one is taken from where this file is."""
    title: str = Field(default="Status", min_length=1, max_length=100)
    """Its heading."""


class AuditSettings(Model):
    """How the audit log is kept."""

    retention: Annotated[Duration, Field(ge=SHORTEST_RETENTION, le=LONGEST_RETENTION)] = timedelta(days=400)
    """Files of which every record is older are removed, once a day."""


class PhoenixFile(Model):
    """A whole phoenix.yaml. Valid when all names in it lead somewhere, exactly one way."""

    api_version: Literal["phoenix-orch.io/v1alpha1"] = "phoenix-orch.io/v1alpha1"
    """Format of the file."""
    router: RouterSpec = RouterSpec()
    """Where users call."""
    api: ApiSpec = ApiSpec()
    """Where people and programs steer Phoenix over TCP, and who is known there."""
    services: dict[Name, ServiceSpec]
    """What runs."""
    routes: dict[Name, RouteSpec] = Field(default_factory=dict)
    """Which requests go to which service. Every service has one."""
    rollouts: dict[Name, RolloutEntry] = Field(default_factory=dict)
    """How new versions are released; left out: the guide's phases."""
    freezes: Annotated[tuple[Freeze, ...], Field(max_length=MOST_RULES)] | None = None
    """Times in which no release begins; left out: those applied before stay."""
    groups: Annotated[tuple[Group, ...], Field(max_length=MOST_RULES)] | None = None
    """Rollouts that are released together; left out: those applied before stay."""
    tasks: Annotated[dict[Name, CommandTask], Field(max_length=MOST_RULES)] | None = None
    """Programs that are run again and again, or by hand; left out: those applied before stay."""
    status_page: StatusPage | None = None
    """The public status page; left out: none is written."""
    audit: AuditSettings | None = None
    """How the audit log is kept; left out: as was applied before, at first 400 days."""
    backup: BackupSpec | None = None
    """Where backups go and how long they stay; left out: as was applied before, at first none is taken."""

    def effective_rollouts(self) -> dict[str, RolloutEntry]:
        """All rollouts with service and route filled in; a routed service without an entry gets the
        guide's phases."""
        filled = {
            name: entry.model_copy(
                update={
                    "service": entry.service or name,
                    "route": entry.route or self._routes_to(entry.service or name)[0],
                }
            )
            for name, entry in self.rollouts.items()
        }
        released = {entry.service for entry in filled.values()}
        for service in self.services:
            routes = self._routes_to(service)
            if service not in released and routes:
                filled[service] = RolloutEntry(service=service, route=routes[0])
        return filled

    def _routes_to(self, service: str) -> list[str]:
        return [name for name, route in self.routes.items() if route.service == service]

    @model_validator(mode="after")
    def _names_lead_somewhere(self) -> Self:
        faults = [*self._route_faults(), *self._rollout_faults()]
        if not faults:
            faults = list(self._rule_faults())
        if faults:
            raise ValidationError.from_exception_data("phoenix.yaml", [fault.details() for fault in faults])
        return self

    def _route_faults(self) -> Iterator[_Fault]:
        taken: dict[tuple[str | None, str], str] = {}
        for name, route in self.routes.items():
            if route.service not in self.services:
                yield _Fault(
                    ("routes", name, "service"),
                    f"there is no service {route.service!r}",
                    tuple(self.services),
                )
            first = taken.setdefault((route.host, route.path_prefix), name)
            if first != name:
                yield _Fault(
                    ("routes", name),
                    f"takes the same requests as route {first!r}: "
                    f"{route.host or 'any host'}, path {route.path_prefix}",
                    (),
                    "another host or pathPrefix",
                )

    def _rollout_faults(self) -> Iterator[_Fault]:
        released: dict[str, str] = {}
        for name, entry in self.rollouts.items():
            service = entry.service or name
            place: config.Loc = ("rollouts", name, *(("service",) if entry.service else ()))
            if service not in self.services:
                yield _Fault(place, f"there is no service {service!r} to release", tuple(self.services))
                continue
            first = released.setdefault(service, name)
            if first != name:
                yield _Fault(
                    place, f"service {service!r} has a rollout already: {first!r}", (), "one for each service"
                )
            yield from self._route_of_rollout(name, service, entry.route, ("rollouts", name))
        for service in self.services:
            if service not in released:
                yield from self._route_of_rollout(service, service, None, ("services", service))

    def _rule_faults(self) -> Iterator[_Fault]:
        """Freezes and groups that are named alike, or name what is not there."""
        known = tuple(self.effective_rollouts())
        for kind, rules in (("freezes", self.freezes or ()), ("groups", self.groups or ())):
            names = [rule.name for rule in rules]
            for index, name in enumerate(names):
                if name in names[:index]:
                    yield _Fault((kind, index, "name"), f"{name!r} is there already", (), "another name")
        for index, group in enumerate(self.groups or ()):
            for name in group.members:
                if name not in known:
                    yield _Fault(("groups", index), f"there is no rollout {name!r}", known)
        if around := circle(self.groups or ()):
            yield _Fault(
                ("groups",),
                f"these would wait for each other for ever: {', '.join(around)}",
                (),
                "orders that go one way",
            )

    def _route_of_rollout(
        self, name: str, service: str, route: str | None, place: config.Loc
    ) -> Iterator[_Fault]:
        """Every service is reached by a route: without one a release could be given no share of traffic."""
        routes = self._routes_to(service)
        if route is None:
            if not routes:
                yield _Fault(
                    place,
                    f"no route leads to service {service!r}, so a release can get no share of traffic",
                    (),
                    f"an entry in routes: {{{service}: {{service: {service}}}}}",
                )
            elif len(routes) > 1:
                yield _ambiguous(place, service, routes)
        elif route not in self.routes:
            yield _Fault(("rollouts", name, "route"), f"there is no route {route!r}", tuple(self.routes))
        elif route not in routes:
            yield _Fault(
                ("rollouts", name, "route"),
                f"route {route!r} leads to service {self.routes[route].service!r}, not to {service!r}",
                tuple(routes),
            )


@dataclass(frozen=True, slots=True)
class _Fault:
    """One name that leads nowhere, or two ways."""

    loc: config.Loc
    message: str
    names: tuple[str, ...]
    """What could have stood there."""
    allowed: str = ""

    def details(self) -> InitErrorDetails:
        context = {"message": self.message, "allowed": self.names or tuple(filter(None, (self.allowed,)))}
        return InitErrorDetails(
            type=PydanticCustomError("reference", "{message}", context), loc=self.loc, input=None
        )


def _ambiguous(loc: config.Loc, service: str, routes: list[str]) -> _Fault:
    return _Fault(
        loc,
        f"{len(routes)} routes lead to service {service!r}, and a rollout steers one",
        (),
        f"rollouts: {{{service}: {{route: {routes[0]}}}}} or another of {', '.join(routes)}",
    )


MASKED = "this is what Phoenix shows instead of a value"


def masks_of(file: PhoenixFile) -> Iterator[config.Loc]:
    """Places where a mask stands instead of a value: what was copied from an answer of Phoenix."""
    return masks_in(file.model_dump(mode="json", by_alias=True))


def mask_fault(loc: config.Loc) -> InitErrorDetails:
    """The error at such a place, for pydantic."""
    context = {"message": MASKED, "allowed": ("the value itself",)}
    return InitErrorDetails(type=PydanticCustomError("masked", "{message}", context), loc=loc, input=None)


def load(path: Path) -> PhoenixFile:
    """Read and check a phoenix.yaml. Raises Invalid or ConfigError, which lists everything wrong.

    Relative paths are taken from where the file is, and absolute from here on.
    """
    source = read(path)
    file = config.validate(source, PhoenixFile)
    if masks := list(masks_of(file)):
        raise config.ConfigError(source.name, [_masked(source, loc) for loc in masks])
    base = Path.cwd() if str(path) == "-" else path.expanduser().absolute().parent
    found: dict[str, Mapping[str, ServiceSpec | CommandTask]] = {
        "services": _placed(file.services, base),
        "tasks": _placed(file.tasks or {}, base),
    }
    missing = [
        _no_directory(source, (section, name, "cwd"), spec.cwd)
        for section, specs in found.items()
        for name, spec in specs.items()
        if not Path(spec.cwd).is_dir()
    ]
    if missing:
        raise config.ConfigError(source.name, missing)
    if file.tasks is None:
        del found["tasks"]
    page = file.status_page
    if page is not None:
        page = page.model_copy(update=absolute(page, base, "directory"))
    backup = file.backup.placed(base) if file.backup is not None else None
    return file.model_copy(
        update={**found, "status_page": page, "api": file.api.placed(base), "backup": backup}
    )


Placed = TypeVar("Placed", ServiceSpec, CommandTask)


def _placed(specs: Mapping[str, Placed], base: Path) -> dict[str, Placed]:
    """With working directories that are absolute."""
    return {name: spec.model_copy(update=absolute(spec, base, "cwd")) for name, spec in specs.items()}


def _masked(source: config.Source, loc: config.Loc) -> config.Problem:
    mark, _ = source.mark(loc)
    quotes = Quotes(source.root, PhoenixFile)
    place = config.field_path(loc)
    return source.problem(mark, place, MASKED, quotes=quotes, allowed="the value itself")


def _no_directory(source: config.Source, loc: config.Loc, directory: str) -> config.Problem:
    mark, _ = source.mark(loc)
    return source.problem(
        mark,
        config.field_path(loc),
        "there is no such directory",
        quotes=Quotes(source.root, PhoenixFile),
        found=directory,
        allowed="an existing directory",
    )


def schema() -> dict[str, Any]:
    """JSON Schema of phoenix.yaml for editors, with what the code says about each key."""
    found = PhoenixFile.model_json_schema(by_alias=True)
    for model in model_shape.models(PhoenixFile):
        shape = found["$defs"].get(model.__name__, found if model is PhoenixFile else {})
        told = model_shape.documents(model)
        for name, info in model.model_fields.items():
            if name in told:
                shape["properties"][info.alias or name].setdefault("description", told[name])
    return {"$schema": SCHEMA_URL, "$id": SCHEMA_ID, **found, "title": "phoenix.yaml"}

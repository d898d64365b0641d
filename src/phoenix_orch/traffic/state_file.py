"""The text of all traffic objects: one file, obeyed by Traefik and read by Phoenix. Pure.

    # phoenix: 5e0c… {"format":2,"spec":{...},"state":{...}}      the truth, a line for each route
    # phoenix: 91b2… {"format":2,"spec":{...},"waiting":"blog"}   declared, nothing of it is ready yet
    {"http": {...}}                                               what they mean, rendered from them

Weight and latch change in one rename because they are one file (rule R4). Each line carries a checksum
of itself; the rest is rendered from the lines, always in the same way. So every change by somebody
else can be told, and what another release of Phoenix wrote as well; both are put right by writing it
again. The file is Phoenix's memory, not a place to steer from: `phoenix rollout abort` is.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from phoenix_orch.kernel.errors import Invalid, PhoenixError
from phoenix_orch.traffic.router import TrafficState
from phoenix_orch.traffic.spec import RouteSpec
from phoenix_orch.traffic.traefik_config import Config, dynamic_config, table_config, waiting_config

Value = TypeVar("Value")

MARK = "# phoenix: "
FORMAT = 2


class RouteObject(BaseModel):
    """A route: which requests, and where they go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: RouteSpec
    state: TrafficState


@dataclass(frozen=True, slots=True)
class Table:
    """All routes of one machine, by name."""

    routes: Mapping[str, RouteObject] = field(default_factory=dict)
    waiting: Mapping[str, RouteSpec] = field(default_factory=dict)
    """Declared, without a traffic object: their requests are answered with 503."""

    def holding(self, route: str, wanted: RouteObject) -> Table:
        """With this object; the route waits no longer."""
        return Table({**self.routes, route: wanted}, _without(self.waiting, route))

    def waiting_for(self, route: str, spec: RouteSpec) -> Table:
        return Table(self.routes, {**self.waiting, route: spec})

    def without(self, route: str) -> Table:
        return Table(_without(self.routes, route), _without(self.waiting, route))


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text says."""

    table: Table = field(default_factory=Table)
    edited: Mapping[str, RouteObject] = field(default_factory=dict)
    """Routes whose line can be read, but is not what Phoenix wrote."""
    ours: bool = True
    """False: there is text, and no line of it is a line of ours (rule R13)."""


def encode(table: Table) -> str:
    """The text of the file. Raises Invalid for names that Traefik could misread."""
    headers: list[dict[str, object]] = [
        {"spec": route.spec.model_dump(mode="json"), "state": _dumped(route.state)}
        for _, route in sorted(table.routes.items())
    ]
    headers += [
        {"spec": spec.model_dump(mode="json"), "waiting": name}
        for name, spec in sorted(table.waiting.items())
    ]
    lines = [_safe(json.dumps({"format": FORMAT, **header}, separators=(",", ":"))) for header in headers]
    body = _safe(json.dumps(table_config(_parts(table))[0], indent=2))
    return "".join([*(f"{MARK}{_checksum(line)} {line}\n" for line in lines), body, "\n"])


def marker(table: Table) -> str:
    """The name of a middleware that Traefik knows exactly when it obeys this table."""
    return table_config(_parts(table))[1]


def decode(text: str) -> Reading:
    """What can be made of a text, whatever happened to it. Lines that cannot be read are left out.

    Raises Invalid for the format of another release.
    """
    routes: dict[str, RouteObject] = {}
    edited: dict[str, RouteObject] = {}
    waiting: dict[str, RouteSpec] = {}
    lines = list(itertools.takewhile(lambda line: line.startswith(MARK), text.split("\n")))
    for line in lines:
        checksum, _, content = line.removeprefix(MARK).partition(" ")
        found, good = _parsed(content), checksum == _checksum(content)
        if isinstance(found, RouteObject):
            (routes if good else edited)[found.state.route] = found
        elif found is not None and good:  # one that was changed is not worth a guess: it is declared again
            waiting[found[0]] = found[1]
    return Reading(Table(routes, waiting), edited, ours=bool(lines) or not text.strip() or _is_empty(text))


def merged(found: Reading, copy: Reading) -> Table:
    """The best knowledge of every route.

    The copy is written after the file and so is never ahead of it: where it is, or knows more, the file
    was put back to an earlier state or lost something. A line that was changed by hand is believed where
    there is no copy at all and Traefik could obey it.
    """
    believed = {} if copy.table.routes else found.edited
    routes = {name: route for name, route in believed.items() if _can_be_rendered(route)}
    for reading in (copy, found):
        for name, route in reading.table.routes.items():
            known = routes.get(name)
            if known is None or route.state.version >= known.state.version:
                routes[name] = route
    waiting = {**copy.table.waiting, **found.table.waiting}
    return Table(routes, {name: spec for name, spec in waiting.items() if name not in routes})


def _parts(table: Table) -> list[Config]:
    objects = [dynamic_config(route.spec, route.state) for _, route in sorted(table.routes.items())]
    return [*objects, *(waiting_config(name, spec) for name, spec in sorted(table.waiting.items()))]


def _dumped(state: TrafficState) -> dict[str, object]:
    return state.model_dump(mode="json", exclude={"drifted"})


def _safe(text: str) -> str:
    """Traefik runs the file through Go templates first, comments too. In JSON two opening braces can
    only stand inside a string, where one of them may as well be written as its code."""
    return text.replace("{{", "{\\u007b")


def _parsed(content: str) -> RouteObject | tuple[str, RouteSpec] | None:
    """What one line says: an object, or a route that waits and its name. None: it cannot be read."""
    try:
        header = json.loads(content)
        written_format = header.pop("format")
        if written_format != FORMAT:
            raise Invalid(
                f"its format is {written_format}; this release of Phoenix knows {FORMAT}",
                remedy="use the release of Phoenix that wrote it",
            )
        if "waiting" in header:
            return str(header["waiting"]), RouteSpec.model_validate(header["spec"])
        return RouteObject.model_validate(header)
    except (ValueError, KeyError, TypeError, AttributeError):  # ValidationError is a ValueError
        return None


def _is_empty(text: str) -> bool:
    """The table of no routes has no line of its own."""
    return text == encode(Table())


def _can_be_rendered(route: RouteObject) -> bool:
    try:
        dynamic_config(route.spec, route.state)
    except PhoenixError:  # a hand-made name that we would not write
        return False
    return True


def _checksum(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()[:12]


def _without(known: Mapping[str, Value], name: str) -> dict[str, Value]:
    return {key: value for key, value in known.items() if key != name}

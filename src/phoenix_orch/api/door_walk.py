"""All routes of an application with their doors: for the reference, and for whoever looks for one without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant as Needs
from fastapi.routing import APIRoute, iter_route_contexts

from phoenix_orch.api.doors import Door, open_to_all


@dataclass(frozen=True, slots=True)
class Way:
    """One method of one route."""

    method: str
    path: str
    doors: tuple[Door, ...]
    """What it asks for; nothing where it is open, or somebody forgot."""
    open: bool
    """It says that it needs no right."""
    streams: bool


def ways(app: FastAPI) -> list[Way]:
    """In the order in which they are looked at."""
    found = []
    for one in iter_route_contexts(app.routes):
        if not isinstance(one.original_route, APIRoute):
            found.append(Way("?", one.path or "?", (), open=False, streams=False))  # nothing asks at its door
            continue
        calls = list(_calls(one.dependant))
        doors = tuple(call for call in calls if isinstance(call, Door))
        streams = str(one.path).endswith(("/stream", "/events"))
        found += [
            Way(method, str(one.path), doors, open=open_to_all in calls, streams=streams)
            for method in sorted(one.methods or ())
        ]
    return found


def _calls(needs: Needs) -> Iterator[object]:
    for one in needs.dependencies:
        yield one.call
        yield from _calls(one)

"""The text of a traffic object: one file, obeyed by Traefik and read by Phoenix. Pure.

    # phoenix: 5e0c… {"format":1,"spec":{...},"state":{...}}     the truth, which Traefik skips
    {"http": {...}}                                              what it means, rendered from it

Weight and latch change in one rename because they are one file (rule R4). The first line carries a
checksum of itself; the rest is rendered from it, always in the same way. So every change by somebody
else can be told, and what another release of Phoenix wrote as well; both are put right by writing it
again. The file is Phoenix's memory, not a place to steer from: `phoenix rollout abort` is.
"""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel, ConfigDict, ValidationError

from phoenix_orch.kernel.errors import Invalid, PhoenixError
from phoenix_orch.traffic.router import TrafficState
from phoenix_orch.traffic.spec import RouteSpec
from phoenix_orch.traffic.traefik_config import dynamic_config

MARK = "# phoenix: "
FORMAT = 1


class NotOurs(Invalid):
    """A file that Phoenix did not write stands where the traffic object belongs (rule R13)."""


class Torn(Invalid):
    """The file bears our mark, or is empty, but cannot be read."""


class Edited(Torn):
    """The first line can be read, but is not what Phoenix wrote. `route` is what it says."""

    def __init__(self, route: RouteObject) -> None:
        super().__init__("its first line was changed by hand")
        self.route = route


class RouteObject(BaseModel):
    """A route: which requests, and where they go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: RouteSpec
    state: TrafficState


def encode(route: RouteObject) -> str:
    """The text of the file. Raises Invalid for names that Traefik could misread."""
    state = route.state.model_dump(mode="json", exclude={"drifted"})
    content = {"format": FORMAT, "spec": route.spec.model_dump(mode="json"), "state": state}
    header = _safe(json.dumps(content, separators=(",", ":")))
    body = _safe(json.dumps(dynamic_config(route.spec, route.state), indent=2))
    return f"{MARK}{_checksum(header)} {header}\n{body}\n"


def _safe(text: str) -> str:
    """Traefik runs the file through Go templates first, comments too. In JSON two opening braces can
    only stand inside a string, where one of them may as well be written as its code."""
    return text.replace("{{", "{\\u007b")


def decode(text: str) -> RouteObject:
    """The route, with `state.drifted` set when the text is not what `encode` writes for it.

    Raises NotOurs without our mark, Torn when our first line cannot be read, Edited when it was changed,
    Invalid for the format of another release.
    """
    if not text.strip():
        raise Torn("the file is empty")
    first = text.split("\n", 1)[0]
    if not first.startswith(MARK):
        raise NotOurs(f"the file does not start with {MARK.strip()!r}: Phoenix did not write it")
    checksum, _, line = first.removeprefix(MARK).partition(" ")
    try:
        header = json.loads(line)
        written_format = header.pop("format")
        if written_format != FORMAT:
            raise Invalid(
                f"its format is {written_format}; this release of Phoenix knows {FORMAT}",
                remedy="use the release of Phoenix that wrote it",
            )
        route = RouteObject.model_validate(header)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Torn(f"its first line cannot be read: {_reason(error)}") from None
    if checksum != _checksum(line):
        raise Edited(_drifted(route))
    return route if _is_as_encoded(route, text) else _drifted(route)


def _drifted(route: RouteObject) -> RouteObject:
    return route.model_copy(update={"state": route.state.model_copy(update={"drifted": True})})


def _checksum(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()[:12]


def _is_as_encoded(route: RouteObject, text: str) -> bool:
    try:
        return encode(route) == text
    except PhoenixError:  # a hand-made name that we would not write
        return False


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error) or type(error).__name__

"""What another configuration changes, place by place. Pure.

Values of environments stay in it: whoever keeps or shows it masks them, so that equal values get equal signs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from phoenix_orch.orchestrator.config import PhoenixFile

_OPAQUE = frozenset({"env", "command"})
"""Keys whose values stay together: they are masked as a whole."""


def differing(
    before: PhoenixFile | None, after: PhoenixFile
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """What differs, before and after, by the place around it: `{"services.shop": {"replicas": 3}}`.

    What `after` does not name stays as it is. None: nothing.
    """
    old = dict(places(before.model_dump(mode="json", by_alias=True))) if before is not None else {}
    new = dict(places(after.model_dump(mode="json", by_alias=True)))
    changed = [place for place, value in new.items() if place not in old or old[place] != value]
    return (
        _nested({place: old[place] for place in changed if place in old}),
        _nested({place: new[place] for place in changed}),
    )


def places(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each value of nested data with the keys that lead to it; lists, environments and commands are one."""
    if isinstance(value, dict) and value and not (place and place[-1] in _OPAQUE):
        for key, part in value.items():
            yield from places(part, (*place, str(key)))
    else:
        yield place, value


def _nested(found: dict[tuple[str, ...], Any]) -> dict[str, Any] | None:
    """By the place around each value, so that its own key still says to a masker what it is."""
    shown: dict[str, dict[str, Any]] = {}
    for place, value in found.items():
        shown.setdefault(".".join(place[:-1]), {})[place[-1]] = value
    return shown or None

"""What an apply changes beside rollouts: tasks, schedules, freezes, groups, backups, who gets in. Pure.

Names of what differs, and no values: they may be secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.differing import places
from phoenix_orch.orchestrator.views import Change, ChangeKind
from phoenix_orch.rollout.spec import Model
from phoenix_orch.tasks.command_spec import CommandTask, schedules_of

SHOWN = 6
"""Places that one line names at most."""
_NEXT_START = "; from the next start of Phoenix on"
_TIMING = frozenset({"schedule", "every", "jitter"})
"""Fields of a task that are its schedule, and told as such."""


def beside_rollouts(known: PhoenixFile | None, merged: PhoenixFile, *, starting: bool) -> list[Change]:
    """What differs between what was applied and what will be, entry by entry. `known`: None, nothing was.

    `starting`: Phoenix is about to begin, so that all of it holds at once.
    """
    before = known or PhoenixFile(services={})
    later = "" if starting else _NEXT_START
    return [
        *_sections("router", before.router, merged.router, later),
        *_sections("api", _without_identity(before), _without_identity(merged), later),
        *_sections("identity", before.api.oidc, merged.api.oidc, later),
        *_tasks(before.tasks or {}, merged.tasks or {}),
        *_entries("freeze", _by_name(before.freezes), _by_name(merged.freezes)),
        *_entries("group", _by_name(before.groups), _by_name(merged.groups)),
        *_sections("backup", before.backup, merged.backup),
        *_sections("audit", before.audit, merged.audit),
        *_sections("status-page", before.status_page, merged.status_page, later),
    ]


def _without_identity(file: PhoenixFile) -> Model:
    return file.api.model_copy(update={"oidc": None})


def _by_name(rules: tuple[Model, ...] | None) -> dict[str, Model]:
    return {str(getattr(rule, "name", "")): rule for rule in rules or ()}


def _tasks(before: Mapping[str, CommandTask], after: Mapping[str, CommandTask]) -> Iterator[Change]:
    yield from _entries("task", before, after, apart=_TIMING)
    old, new = schedules_of(before), schedules_of(after)
    for name in sorted({*old, *new}):
        was, now = (str(one[name].timing) if name in one else "" for one in (old, new))
        target = f"schedule/{name}"
        if not was:
            yield Change(kind=ChangeKind.CREATE, target=target, detail=f"runs {now}")
        elif not now:
            yield Change(kind=ChangeKind.REMOVE, target=target, detail=f"ran {was}; no slot comes any more")
        elif old[name].timing != new[name].timing:
            yield Change(kind=ChangeKind.CONFIGURE, target=target, detail=f"runs {now}, and ran {was}")


def _entries(
    kind: str,
    before: Mapping[str, Model],
    after: Mapping[str, Model],
    *,
    apart: frozenset[str] = frozenset(),
) -> Iterator[Change]:
    for name in sorted({*before, *after}):
        yield from _compared(f"{kind}/{name}", before.get(name), after.get(name), apart=apart)


def _sections(target: str, before: Model | None, after: Model | None, later: str = "") -> Iterator[Change]:
    yield from _compared(target, before, after, later=later)


def _compared(
    target: str,
    before: Model | None,
    after: Model | None,
    *,
    later: str = "",
    apart: frozenset[str] = frozenset(),
) -> Iterator[Change]:
    if before is None and after is not None:
        yield Change(kind=ChangeKind.CREATE, target=target, detail=f"is new{later}")
    elif before is not None and after is None:
        yield Change(kind=ChangeKind.REMOVE, target=target, detail=f"is no longer in the file{later}")
    elif before is not None and after is not None and (names := _differ(before, after, apart)):
        yield Change(
            kind=ChangeKind.CONFIGURE, target=target, detail=f"other than before: {_listed(names)}{later}"
        )


def _differ(before: Model, after: Model, apart: frozenset[str]) -> list[str]:
    old, new = (dict(places(one.model_dump(mode="json", by_alias=True))) for one in (before, after))
    found = sorted(
        ".".join(place)
        for place in {*old, *new}
        if old.get(place) != new.get(place) and place[:1] and place[0] not in apart
    )
    # What was nothing and is a mapping now differs at both places: the longer one says more.
    covered = {one for one, following in pairwise(found) if following.startswith(f"{one}.")}
    return [one for one in found if one not in covered]


def _listed(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")

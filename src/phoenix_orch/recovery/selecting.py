"""Which backup is meant: by id, the beginning of one, `latest`, or the moment to go back to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from phoenix_orch.kernel.errors import Invalid, NotFound
from phoenix_orch.recovery.catalog import Backup

LATEST = "latest"
_LIST = "`phoenix backup list` shows what there is"


def select(
    backups: Sequence[Backup], word: str = LATEST, *, component: str = "", as_of: datetime | None = None
) -> Backup:
    """One of `backups`, newest first. `as_of`: the newest whose content is not later than that.

    `latest` and `as_of` take good backups only, and none of what a restore wrote over: that is what somebody
    wanted to be rid of. One that is dated in the future is taken where there is no other. A person may name
    another one by its id.
    Raises NotFound, and Invalid for a beginning that several have.
    """
    of_it = [one for one in backups if not component or one.manifest.component == component]
    if word != LATEST:
        return _named(of_it, word)
    good = [one for one in of_it if one.good and not one.before_restore and one.tombstone is None]
    if as_of is not None:
        good = [one for one in good if one.manifest.time.consistency_point <= as_of]
    if len({one.manifest.component for one in good}) > 1:
        names = sorted({one.manifest.component for one in good})
        raise Invalid("there are backups of several components", remedy=f"name one: {', '.join(names)}")
    if not good:
        what = f" of {component}" if component else ""
        when = f" as of {as_of:%Y-%m-%dT%H:%M:%SZ}" if as_of is not None else ""
        others = sorted({one.manifest.component for one in backups} - {component})
        there = f"there are backups of {', '.join(others)}; {_LIST}" if component and others else _LIST
        raise NotFound(f"there is no verified backup{what}{when}", remedy=there)
    of_now = [one for one in good if not one.future]
    return max(of_now or good, key=lambda one: (one.manifest.time.consistency_point, one.id))


def _named(backups: Sequence[Backup], word: str) -> Backup:
    found = [one for one in backups if one.id.startswith(word)] if word else []
    if len(found) > 1:
        names = ", ".join(one.id for one in found[:4])
        raise Invalid(f"{len(found)} backups begin with {word!r}: {names}", remedy="give more of the id")
    if not found:
        raise NotFound(f"there is no backup {word!r}", remedy=_LIST)
    return found[0]

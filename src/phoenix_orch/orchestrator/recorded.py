"""Records of what a person does to backups, keys and what lives: before and after it, wherever that can be.

Each act goes into the file beside the journal of restores, into the audit log where this data directory has
one, and into the storage where that is at hand. One of them is enough: at night, on a machine with nothing
but the storage and a key file, nothing waits for an audit log; and what can be recorded nowhere is not done.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from phoenix_orch.kernel.errors import Invalid, Latched, Outdated, PhoenixError, Retryable
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.kernel.masking import Masker, masked_assignments, told
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.objects import ObjectStore
from phoenix_orch.recovery.restore.acts import ALONE, Act, Acts, Came, Second, keep
from phoenix_orch.security.audit_chain import Entry
from phoenix_orch.security.audit_log import AuditLog
from phoenix_orch.security.recorder import without_secrets

SOURCE = "command line"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is about to be done."""

    action: str
    target: str
    actor: str
    plan: str = ""
    reason: str = ""
    second: Second = Second.NOT_WANTED
    told: dict[str, Any] = field(default_factory=dict)
    """More of what is asked, as it can be said in JSON."""


@contextlib.contextmanager
def recorded(
    layout: Layout,
    wish: Wish,
    *,
    store: ObjectStore | None = None,
    tell: Callable[[str], None] = lambda _: None,
    begin_log: bool = False,
) -> Iterator[dict[str, Any]]:
    """One record before the body and one of what came of it; the body puts into the dict what it did.

    `store`: the storage that it is about. `tell` is given each place that did not take a record. `begin_log`:
    the audit log is begun where there is none.
    Raises Retryable where no place took the first one: nothing was done.
    """
    places = _Places(layout, store, tell, begin_log=begin_log)
    act = _act(wish)
    places.keep(act)
    if not places.kept:
        raise Retryable(
            f"{wish.action} of {wish.target} can be recorded nowhere, and nothing was done",
            remedy="free space in the data directory, or name another one with --data-dir",
        )
    done: dict[str, Any] = {}
    try:
        yield done
    except BaseException as error:
        refused = isinstance(error, Invalid | Latched | Outdated)
        message = (
            error.message if isinstance(error, PhoenixError) else f"it ended with {type(error).__name__}"
        )
        places.keep(_ended(act, Came.REFUSED if refused else Came.FAILED, done, message))
        raise
    places.keep(_ended(act, Came.DONE, done, ""))


class _Places:
    """Where records are kept; what one of them raises is told, and the others are tried."""

    def __init__(
        self, layout: Layout, store: ObjectStore | None, tell: Callable[[str], None], *, begin_log: bool
    ) -> None:
        self._acts = Acts(layout.root / "restores")
        self._log = AuditLog(layout.audit) if begin_log or layout.audit.is_dir() else None
        self._store = store
        self._tell = tell
        self._asked: int | None = None
        self.kept = 0

    def keep(self, act: Act) -> None:
        self._try(lambda: self._acts.append(act))
        if self._log is not None:
            self._try(lambda: self._logged(act))
        if self._store is not None:
            store = self._store
            self._try(lambda: keep(store, act))

    def _try(self, put: Callable[[], object]) -> None:
        try:
            put()
        except (PhoenixError, OSError) as error:
            why = error.message if isinstance(error, PhoenixError) else str(error)
            self._tell(f"not recorded there: {why}")
        else:
            self.kept += 1

    def _logged(self, act: Act) -> None:
        assert self._log is not None
        alone = f"{act.second.value.upper()}: " if act.second in ALONE else ""
        entry = Entry(
            at=act.at,
            actor=act.actor,
            action=act.action,
            target=act.target,
            reason=act.message or f"{alone}{act.reason}",
            outcome=act.outcome.value,
            asked=self._asked,
            after={"plan": act.plan, "secondPerson": act.second.value, "host": act.host, **act.after},
            source=SOURCE,
        )
        (record,) = self._log.append([entry])
        if act.outcome is Came.ASKED:
            self._asked = record.seq


def _act(wish: Wish) -> Act:
    now = datetime.now(UTC)
    return Act(
        id=sortable_id(now),
        at=now,
        actor=told(wish.actor),
        host=platform.node(),
        action=wish.action,
        target=told(wish.target),
        plan=wish.plan,
        reason=masked_assignments(told(wish.reason)),
        second=wish.second,
        after=_shown(wish.told),
    )


def _ended(act: Act, outcome: Came, done: dict[str, Any], message: str) -> Act:
    return act.model_copy(
        update={
            "at": datetime.now(UTC),
            "outcome": outcome,
            "message": masked_assignments(told(message)),
            "after": _shown(done),
        }
    )


def _shown(value: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = without_secrets(Masker().data(value))
    return shown

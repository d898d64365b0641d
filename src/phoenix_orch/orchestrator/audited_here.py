"""Acts of a command that needs no running Phoenix, in the audit log of the data directory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from phoenix_orch.kernel.errors import Invalid, PhoenixError
from phoenix_orch.kernel.masking import Masker
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.security.audit_chain import Entry, Outcome
from phoenix_orch.security.audit_log import AuditLog


@contextlib.contextmanager
def audited(
    layout: Layout, action: str, target: str, *, actor: str, reason: str = ""
) -> Iterator[dict[str, Any]]:
    """One record before the body and one of what came of it; the body puts into the dict what it did.

    Raises Retryable or Terminal where the log cannot be written: before the body, and nothing was done.
    """
    log = AuditLog(layout.audit)

    def entry(outcome: Outcome, *, why: str, asked: int | None = None, after: Any = None) -> Entry:
        return Entry(
            at=datetime.now(UTC),
            actor=actor,
            action=action,
            target=target,
            reason=why,
            outcome=outcome,
            asked=asked,
            after=after,
            source="command line",
        )

    (first,) = log.append([entry(Outcome.ASKED, why=reason)])
    done: dict[str, Any] = {}
    try:
        yield done
    except BaseException as error:
        outcome = Outcome.REFUSED if isinstance(error, Invalid) else Outcome.FAILED
        why = error.message if isinstance(error, PhoenixError) else f"it ended with {type(error).__name__}"
        log.append([entry(outcome, why=why, asked=first.seq)])
        raise
    log.append(
        [entry(Outcome.DONE, why=reason, asked=first.seq, after=Masker().data(done) if done else None)]
    )

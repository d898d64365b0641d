"""The audit log as people and programs see it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.rollout.spec import Model
from phoenix_orch.security.audit_chain import Link, Record, shown
from phoenix_orch.security.audit_log import Verified


class AuditRecord(Model):
    """One record, with the names of the file."""

    seq: int
    at: datetime
    actor: str
    action: str
    target: str
    outcome: str = ""
    reason: str = ""
    before: Any = None
    after: Any = None
    request_id: str = ""
    source: str = ""
    asked: int | None = None
    """Number of the record that told what was asked."""
    event: str = ""
    prev: str
    hash: str


class AuditPage(Model):
    """Records, oldest first."""

    records: tuple[AuditRecord, ...]
    before: int | None = None
    """Give this back as `before` for the ones that are older; None: there are none."""


class AuditHead(Model):
    """The end of the log. Whoever notes it can tell later that the log still holds it."""

    seq: int
    hash: str


class AuditFault(Model):
    kind: str
    file: str
    line: int
    seq: int
    detail: str


class AuditVerified(Model):
    """What a walk over the whole log has found."""

    holds: bool
    records: int
    first: int
    last: AuditHead
    faults: tuple[AuditFault, ...] = ()


def verified(found: Verified) -> AuditVerified:
    return AuditVerified(
        holds=found.holds,
        records=found.records,
        first=found.first,
        last=AuditHead(seq=found.last.seq, hash=found.last.hash),
        faults=tuple(
            AuditFault(
                kind=one.fault.kind.value,
                file=one.file,
                line=one.fault.line,
                seq=one.fault.seq,
                detail=one.fault.detail,
            )
            for one in found.faults
        ),
    )


def noted(text: str) -> Link:
    """A head as `phoenix audit head` prints it. Raises Invalid."""
    seq, _, found = text.strip().partition(":")
    if not seq.isdecimal() or len(seq) > 18 or len(found) != 64:
        raise Invalid(f"{text!r} is no head", remedy="give what `phoenix audit head` printed: SEQ:HASH")
    return Link(int(seq), found)


def viewed(record: Record) -> AuditRecord:
    return AuditRecord.model_validate(shown(record))

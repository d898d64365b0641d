"""The audit log beside the backups: what was recorded since, as objects that nobody writes over.

    audit/<cluster>/<namespace>/<first>-<last>-<hash of the last>.jsonl.zst.age

A task of Phoenix's own, every five minutes, once `backup` says where. Each object holds lines as they are in
the log, sealed for the recipients of the backups. The next one has to follow the last one by its hash: a log
that was cut or made anew is told of, and what was mirrored stays as it was.
"""

from __future__ import annotations

import asyncio
import functools
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel

from phoenix_orch.kernel.errors import Conflict, Terminal
from phoenix_orch.kernel.text import counted
from phoenix_orch.orchestrator.backup_tasks import DeclaresBackups, Work
from phoenix_orch.recovery.keys import Recipient
from phoenix_orch.recovery.objects import ObjectStore
from phoenix_orch.security.audit_chain import Link, Record, encoded
from phoenix_orch.security.audit_log import AuditRecords
from phoenix_orch.tasks.context import TaskContext
from phoenix_orch.tasks.registry import TaskKind, task
from phoenix_orch.tasks.schedule import Schedule, Timing
from phoenix_orch.tasks.spec import Retries

MIRROR = "audit.mirror"
SCHEDULE = Schedule(name="audit-mirror", kind=MIRROR, timing=Timing(every=timedelta(minutes=5)))
LARGEST = 4 * 2**20
"""Bytes of lines in one object, at least one line."""
_NAME = re.compile(r"([0-9]{12})-([0-9]{12})-([0-9a-f]{16})\.jsonl\.zst\.age")


class Mirrored(BaseModel):
    """What one run did."""

    records: int
    """That were added."""
    through: int
    """Number of the last record that is in the storage; 0: none."""


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """One object of the mirror."""

    first: int
    last: int
    hash: str
    """The first 16 digits of that of the last record."""

    @property
    def name(self) -> str:
        return f"{self.first:012d}-{self.last:012d}-{self.hash}.jsonl.zst.age"


def schedules(config: DeclaresBackups | None) -> Sequence[Schedule]:
    """Nothing where no storage is set."""
    return (SCHEDULE,) if config is not None and config.backup is not None else ()


def mirror_kind(log: AuditRecords, work: Work) -> TaskKind:
    """`work`: where the backups go."""

    @task(
        kind=MIRROR,
        summary="Add what was recorded since to the audit log's mirror beside the backups",
        single=True,
        deadline=timedelta(minutes=30),
        retries=Retries(attempts=3),
    )
    async def mirror(context: TaskContext) -> Mirrored:
        backups = await work.opened(context.actor)
        await asyncio.to_thread(backups.marks.use)
        prefix = f"audit/{backups.home.cluster}/{backups.home.namespace}/"
        adding = functools.partial(mirrored, log, backups.store, prefix, backups.recipients)
        done = await asyncio.to_thread(adding)
        await context.log(
            f"added {counted(done.records, 'record')}; the mirror goes to record {done.through}"
        )
        return done

    return mirror


def parts(store: ObjectStore, prefix: str) -> list[Part]:
    """What is there, the oldest first."""
    found = (_NAME.fullmatch(one.key.removeprefix(prefix)) for one in store.list(prefix))
    return sorted(Part(int(one[1]), int(one[2]), one[3]) for one in found if one is not None)


def mirrored(log: AuditRecords, store: ObjectStore, prefix: str, recipients: Sequence[Recipient]) -> Mirrored:
    """Add what the log has after the last object. Idempotent; two at once add the same objects or stop.

    Raises Terminal where the log does not follow what was mirrored, and what log and store raise.
    """
    from phoenix_orch.recovery.pipeline import seal  # noqa: PLC0415 - half a second

    last = max(parts(store, prefix), key=lambda part: part.last, default=Part(0, 0, ""))
    end = log.last()
    if end.seq < last.last:
        raise Terminal(
            f"the audit log ends at record {end.seq}, and record {last.last} was mirrored: "
            "it was cut or made anew",
            remedy=f"keep {prefix} of the storage as evidence, and find out who did it",
        )
    added = 0
    for batch in _batches(_following(log.after(last.last), last), LARGEST):
        part = Part(batch.first, batch.end.seq, batch.end.hash[:16])
        sealed = io.BytesIO()
        seal(io.BytesIO(batch.lines), sealed, recipients)
        try:
            store.create(prefix + part.name, sealed.getvalue())
        except Conflict:
            break  # another replica is at it
        added, last = added + part.last - part.first + 1, part
    return Mirrored(records=added, through=last.last)


@dataclass(frozen=True, slots=True)
class _Batch:
    first: int
    end: Link
    lines: bytes


def _following(records: Iterable[Record], last: Part) -> Iterator[tuple[bytes, Link]]:
    """Each record as its line, made anew and compared by its hash, and each after the one before it."""
    before = Link(last.last, last.hash)
    for record in records:
        begins = before.seq == 0  # an empty mirror begins with the oldest record that is kept
        if not begins and (record.seq != before.seq + 1 or not record.prev.startswith(before.hash)):
            raise Terminal(
                f"record {record.seq} of the audit log does not follow record {before.seq} "
                "as it was mirrored",
                remedy="`phoenix audit verify` tells what does not hold; keep the mirror as evidence",
            )
        line, before = encoded(record, Link(record.seq - 1, record.prev))
        if before.hash != record.hash:
            raise Terminal(
                f"record {record.seq} of the audit log does not have its hash; it was not mirrored",
                remedy="`phoenix audit verify` tells what does not hold",
            )
        yield line, before


def _batches(lines: Iterable[tuple[bytes, Link]], largest: int) -> Iterator[_Batch]:
    batch, first, end = bytearray(), 0, Link(0, "")
    for line, link in lines:
        if batch and len(batch) + len(line) > largest:
            yield _Batch(first, end, bytes(batch))
            batch.clear()
        if not batch:
            first = link.seq
        batch += line
        end = link
    if batch:
        yield _Batch(first, end, bytes(batch))

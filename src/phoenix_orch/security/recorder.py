"""What a running Phoenix writes into the audit log: many callers, one append, and nothing that waits for it
without need.

Two ways in. `record` and `acting` are for what people ask: the record is on the disk before anything is done,
and where the disk does not take it nothing is done. `note`, and `acting` of what is urgent, are for what must
never wait (rule R2): the record is kept in memory until the log takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import structlog
from pydantic import BaseModel

from phoenix_orch.kernel.errors import Invalid, Latched, PhoenixError, Retryable
from phoenix_orch.kernel.masking import MASK, Masker, looks_secret, masked_assignments, told
from phoenix_orch.observability import metrics
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.runtime.joined import Joined
from phoenix_orch.security.audit_chain import Entry, Outcome, Record
from phoenix_orch.security.audit_log import LOST, AuditRecords

PATIENCE = 5.0
"""Seconds that an act waits for its record."""
SHORT_PATIENCE = 1.0
"""Seconds that the answer to what is urgent waits, after it was done."""
RETRY = 1.0
"""Seconds between two tries to write what is kept in memory."""
MOST_KEPT = 10_000
"""Entries in memory while the log cannot be written; the oldest stay."""
ITSELF = "phoenix"
"""Actor of what no person or program asked for."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who acts now, and where that comes from."""

    actor: str = ITSELF
    request_id: str = ""
    source: str = ""


@dataclass(slots=True)
class Act:
    """What is being done; the body of `acting` says what came of it."""

    after: Any = None
    seq: int | None = None
    """Number of the record that told what is asked; None while it waits in memory."""


@dataclass(slots=True, eq=False)
class _Waiting:
    entry: Entry
    urgent: bool
    """Kept until it is written."""
    record: Record | None = None
    error: PhoenixError | None = None


class Recorder:
    """One for a process. Call it from one event loop; `run` until cancelled, for what waits in memory."""

    def __init__(
        self,
        log: AuditRecords,
        masker: Masker | None = None,
        *,
        origin: Callable[[], Origin] = Origin,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        appended: Callable[[], None] = lambda: None,
        patience: float = PATIENCE,
    ) -> None:
        """`origin`: who acts in the task that calls. `now`: on a clock on the wall. `appended` is called
        after each append. `patience`: seconds that an act waits for its record."""
        self._patience = patience
        self.log = log
        self._masker = masker or Masker()
        self._origin = origin
        self._now = now
        self._appended = appended
        self._waiting: list[_Waiting] = []
        self._lost = 0
        self._flush = Joined(self._append_waiting)
        self._work = asyncio.Event()
        self._faults = Faults(structlog.get_logger("phoenix.audit"))

    # -- ways in -----------------------------------------------------------------------------------

    async def record(
        self,
        action: str,
        target: str,
        *,
        actor: str = "",
        reason: str = "",
        before: Any = None,
        after: Any = None,
        outcome: Outcome = Outcome.DONE,
        asked: int | None = None,
    ) -> int:
        """Append one record; its number. On the disk when it returns.

        `action`: `noun.verb`. `target`: kind and name, `token/ci`. `actor`: left out, whoever acts now.
        `before` and `after`: plain data or models; what looks secret in them is masked.
        Raises Retryable or Terminal where the log cannot be written: then do not do it.
        """
        entry = self._entry(
            action,
            target,
            actor=actor,
            reason=reason,
            before=before,
            after=after,
            outcome=outcome,
            asked=asked,
        )
        (record,) = await self.append([entry])
        return record.seq

    def note(self, action: str, target: str, **told: Any) -> None:
        """As `record`, without waiting: it is written as soon as the log can be."""
        self._keep(self._entry(action, target, **told))

    @contextlib.asynccontextmanager
    async def acting(
        self,
        action: str,
        target: str,
        *,
        actor: str = "",
        reason: str = "",
        before: Any = None,
        after: Any = None,
        urgent: bool = False,
    ) -> AsyncIterator[Act]:
        """Two records around an act: what is asked, and what came of it.

        The first one is on the disk before the body runs, the second one before this returns. `after`: what
        is wanted; what came of it the body gives to the act. An error of the body is recorded and raised.
        `urgent`: the body runs at once, whatever becomes of the records.
        Raises Retryable or Terminal where the log cannot be written: before the body, and nothing was done;
        or after it, and the error says that it was done.
        """
        asked = self._entry(
            action,
            target,
            actor=actor,
            reason=reason,
            before=before,
            after=after,
            outcome=Outcome.ASKED,
        )
        act = Act()
        first = None
        if urgent:
            first = self._keep(asked)
        else:
            (record,) = await self.append([asked])
            act.seq = record.seq
        try:
            yield act
        except BaseException as error:
            self._keep(self._ended(asked, act, first, _outcome(error), _said(error)))
            raise
        last = self._keep(self._ended(asked, act, first, Outcome.DONE, ""))
        await self._settle(action, target, last, strict=not urgent)

    def _ended(self, asked: Entry, act: Act, first: _Waiting | None, outcome: Outcome, reason: str) -> Entry:
        if first is not None and first.record is not None:
            act.seq = first.record.seq
        return replace(
            asked,
            at=self._now(),
            outcome=outcome,
            reason=reason or asked.reason,
            before=None,
            after=self._masked(act.after),
            asked=act.seq,
        )

    async def _settle(self, action: str, target: str, last: _Waiting, *, strict: bool) -> None:
        """The outcome is on the disk, or it is said that it is not."""
        try:
            async with asyncio.timeout(self._patience if strict else min(SHORT_PATIENCE, self._patience)):
                await self._flush.ask()
        except TimeoutError:
            pass
        if last.record is None and strict:
            why = last.error.message if last.error else "the audit log does not answer"
            raise Retryable(
                f"{action} of {target} was done, and the audit log does not hold that yet: {why}",
                remedy="do not repeat it; it is recorded as soon as the log can be written",
            )

    # -- plumbing ----------------------------------------------------------------------------------

    async def append(self, entries: Sequence[Entry], *, however_long: bool = False) -> list[Record]:
        """Entries that are `made` already: on the disk when it returns.

        `however_long`: wait for the disk's answer. Raises Retryable, Terminal. A disk that did not answer in
        time may have taken them all the same.
        """
        mine = [_Waiting(entry, urgent=False) for entry in entries]
        self._waiting += mine
        try:
            async with asyncio.timeout(None if however_long else self._patience):
                await self._flush.ask()
        except TimeoutError:
            raise Retryable(
                f"the audit log did not take a record within {self._patience:g} s",
                remedy="look at the disk of the data directory: what changes something is recorded first",
            ) from None
        finally:
            self._waiting = [one for one in self._waiting if one not in mine]
        for one in mine:
            if one.error is not None:
                raise type(one.error)(one.error.message, remedy=one.error.remedy)
        return [one.record for one in mine if one.record is not None]

    def _keep(self, entry: Entry) -> _Waiting:
        one = _Waiting(entry, urgent=True)
        if len(self._waiting) < MOST_KEPT:
            self._waiting.append(one)
            self._work.set()
        else:
            self._lost += 1
        return one

    async def _append_waiting(self) -> None:
        """One append for everybody who waits. What is urgent waits on when it fails."""
        batch, self._waiting = self._waiting, []
        if not batch:
            return
        entries = [one.entry for one in batch]
        if lost := self._lost:
            message = f"{lost} records were lost while the audit log could not be written"
            entries.append(Entry(at=self._now(), actor=ITSELF, action=LOST, target="audit", reason=message))
        try:
            with metrics.appending(len(entries)):
                records = await asyncio.to_thread(self.log.append, entries)
        except PhoenixError as error:
            for one in batch:
                one.error = error
            self._waiting = [one for one in batch if one.urgent] + self._waiting
            self._faults.tell("audit log", error=error)
            return
        self._faults.mended("audit log")
        self._lost -= lost
        for one, record in zip(batch, records, strict=False):
            one.record, one.error = record, None
        self._appended()

    async def run(self) -> None:
        """Write what waits in memory, until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            await self._flush.ask()
            if any(one.urgent for one in self._waiting):
                self._work.set()
                await asyncio.sleep(RETRY)

    async def drain(self) -> None:
        """One last try, at the end of a process."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHORT_PATIENCE):
                await self._flush.ask()

    def _entry(
        self,
        action: str,
        target: str,
        *,
        actor: str = "",
        reason: str = "",
        before: Any = None,
        after: Any = None,
        outcome: Outcome = Outcome.DONE,
        asked: int | None = None,
    ) -> Entry:
        origin = self._origin()
        return self.made(
            Entry(
                at=self._now(),
                actor=actor or origin.actor,
                action=action,
                target=target,
                reason=reason,
                before=before,
                after=after,
                request_id=origin.request_id,
                source=origin.source,
                outcome=outcome,
                asked=asked,
            )
        )

    def made(self, entry: Entry) -> Entry:
        """Fit to be kept: without secrets, and each word in one line."""
        return replace(
            entry,
            actor=told(entry.actor),
            target=told(entry.target),
            reason=masked_assignments(told(entry.reason)),
            before=self._masked(entry.before),
            after=self._masked(entry.after),
        )

    def _masked(self, value: Any) -> Any:
        return without_secrets(self._masker.data(_plain(value)))


def _plain(value: Any) -> Any:
    """Models as the data that the API would give."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def without_secrets(value: Any) -> Any:
    """Plain data in which every text that stands at a name that looks secret is masked."""
    if isinstance(value, dict):
        return {
            key: MASK
            if isinstance(part, str) and part and not part.startswith(MASK[:-1]) and looks_secret(str(key))
            else without_secrets(part)
            for key, part in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(part) for part in value]
    return masked_assignments(value) if isinstance(value, str) else value


def _outcome(error: BaseException) -> Outcome:
    """What is refused has changed nothing; of the rest nobody can be sure."""
    return Outcome.REFUSED if isinstance(error, Invalid | Latched) else Outcome.FAILED


def _said(error: BaseException) -> str:
    """In words that hold no values where the error is none of Phoenix."""
    if isinstance(error, PhoenixError):
        return masked_assignments(told(error.message))
    return f"it ended with {type(error).__name__}"

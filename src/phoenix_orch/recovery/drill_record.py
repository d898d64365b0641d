"""Reports of drills in the bucket: signed, made once, never written again, gone when their time is over.

drills/<time>-<id>.json
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from phoenix_orch.kernel.errors import Conflict, Invalid, NotFound, PhoenixError
from phoenix_orch.recovery.drill_report import Report, evidence
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.layout import stamp
from phoenix_orch.recovery.objects import ObjectStore
from phoenix_orch.recovery.signing import Signer, Tampered, Trust, opened, signed

PREFIX = "drills/"
LATEST = "latest"
_KEY = re.compile(r"drills/(?P<time>[0-9]{8}T[0-9]{6}Z)-(?P<id>[0-9a-z]{16})\.json")
_LIST = "`phoenix drill list` shows what there is"


def key_of(report: Report) -> str:
    return f"{PREFIX}{stamp(report.started)}-{report.id}.json"


def put(store: ObjectStore, report: Report, signer: Signer) -> str:
    """Its key. Raises what the store raises; an answer that was lost is looked up."""
    key = key_of(report)
    raw = signed(report.model_dump(mode="json", by_alias=True, exclude_none=True), signer)
    try:
        store.create(key, raw)
    except Conflict:
        if store.get(key)[0] != raw:
            raise
    return key


def keys(store: ObjectStore) -> list[str]:
    """Of all reports, newest first."""
    return sorted((stat.key for stat in store.list(PREFIX) if _KEY.fullmatch(stat.key)), reverse=True)


def read(store: ObjectStore, key: str, trust: Trust) -> Report:
    """Raises Tampered for what is not as it was written, NotFound."""
    content = opened(store.get(key)[0], trust, key)
    try:
        report = Report.model_validate(content)
    except ValidationError as error:
        raise Tampered(
            f"{key} is no report of a drill that this Phoenix can read: {error.errors()[0]['msg']}",
            remedy="use a Phoenix that is at least as new as the one that wrote it",
        ) from None
    if key_of(report) != key:
        raise Tampered(f"{key} holds another report, {report.id}", remedy=_LIST)
    if evidence(report) != report.evidence:
        raise Tampered(f"{key} is not what its evidence says", remedy=_LIST)
    return report


def reports(store: ObjectStore, trust: Trust, limit: int) -> tuple[list[Report], list[str]]:
    """The newest so many, newest first; and what is wrong with others."""
    found: list[Report] = []
    faults: list[str] = []
    for key in keys(store)[:limit]:
        try:
            found.append(read(store, key, trust))
        except Corrupted as error:
            faults.append(error.message)
        except NotFound:
            pass  # its time was over meanwhile
    return found, faults


def one(store: ObjectStore, trust: Trust, word: str = LATEST) -> Report:
    """By id, the beginning of one, or `latest`. Raises NotFound, Invalid, Tampered."""
    known = keys(store)
    chosen = known[:1] if word == LATEST else [key for key in known if _id(key).startswith(word)]
    if not chosen or not word:
        raise NotFound(
            f"there is no drill {word!r}" if known else "there was no drill yet",
            remedy=_LIST if known else "run one: phoenix drill run monthly",
        )
    if len(chosen) > 1:
        raise Invalid(f"{len(chosen)} drills begin with {word!r}", remedy="give more of the id")
    return read(store, chosen[0], trust)


def expire(store: ObjectStore, keep: timedelta, now: datetime) -> int:
    """Remove reports that are older; how many. What the storage does not let go of stays.

    Older by our clock and by the storage's: one that is ahead ends no evidence.
    """
    return sum(_removed(store, key) for key in _older(store, min(now, store.now()) - keep))


def _older(store: ObjectStore, before: datetime) -> Sequence[str]:
    return [key for key in keys(store) if (at := _moment(key)) is not None and at < before]


def _removed(store: ObjectStore, key: str) -> int:
    try:
        store.delete(key)
    except PhoenixError:
        return 0
    return 1


def _id(key: str) -> str:
    match = _KEY.fullmatch(key)
    return match["id"] if match is not None else ""


def _moment(key: str) -> datetime | None:
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    try:
        return datetime.strptime(match["time"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None

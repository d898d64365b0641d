"""Where one Phoenix keeps everything: one directory, one owner."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from phoenix_orch.kernel.clock import Clock, RealClock, ScaledClock
from phoenix_orch.kernel.errors import BadState, Invalid
from phoenix_orch.runtime.files import make_private
from phoenix_orch.runtime.held_lock import HeldLock

MASK_KEY_BYTES = 32
LONGEST_SOCKET = 107
"""Bytes of a unix socket's path on Linux, without the final zero."""
_YEARS = (1970, 9900)
"""What a clock may show: moments that are reckoned from it have to be moments, too."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below the data directory."""

    root: Path

    @property
    def valkey(self) -> Path:
        return self.root / "valkey"

    @property
    def router(self) -> Path:
        return self.root / "router"

    @property
    def socket(self) -> Path:
        return self.root / "phoenix.sock"

    @property
    def config(self) -> Path:
        """The configuration applied last, in full."""
        return self.root / "applied.json"

    @property
    def serving(self) -> Path:
        """The same with what the last releases that succeeded made of its services."""
        return self.root / "serving.json"

    @property
    def clock(self) -> Path:
        return self.root / "clock.json"

    @property
    def process(self) -> Path:
        """Who runs Phoenix here: pid and start."""
        return self.root / "phoenix.json"

    @property
    def freezes(self) -> Path:
        """What people said about freezes."""
        return self.root / "freezes.json"

    @property
    def aborts(self) -> Path:
        """Notes of aborts made past Phoenix."""
        return self.root / "aborts"

    @property
    def audit(self) -> Path:
        """The audit log: see `security/audit_log.py`."""
        return self.root / "audit"

    @property
    def followed(self) -> Path:
        """Which events are in the audit log."""
        return self.root / "followed.json"

    @property
    def access_log(self) -> Path:
        """One line for each request to the API."""
        return self.root / "logs" / "access.jsonl"

    @property
    def status_days(self) -> Path:
        """How much of each of the last days each part was well."""
        return self.root / "status-days.json"

    @property
    def configurations(self) -> Path:
        """The history of configurations that were backed up, and the key of its signs."""
        return self.root / "configurations"

    @property
    def tokens(self) -> Path:
        """Digests of API tokens."""
        return self.root / "tokens.json"

    @property
    def first_token(self) -> Path:
        """The token that is made at the first start, as text."""
        return self.root / "token"

    @property
    def approvals(self) -> Path:
        """What waits for a second person, and what came of it."""
        return self.root / "approvals.json"

    @property
    def backup_keys(self) -> Path:
        """Private keys of backups: the online one, and the one that signs."""
        return self.root / "keys"

    @property
    def backup_state(self) -> Path:
        """What backups keep here between runs; all of it can be made anew from the bucket."""
        return self.root / "backup-state"

    @property
    def backup_notes(self) -> Path:
        """Which applications are at rest for a backup: they are woken at the next start."""
        return self.root / "at-rest"

    @property
    def mask_key(self) -> Path:
        """The key of the signs that stand for values which are not shown."""
        return self.root / "mask.key"

    @property
    def made(self) -> bool:
        """Phoenix has been started here before."""
        return self.valkey.is_dir() and self.router.is_dir()

    def lock(self, component: str) -> Path:
        return self.root / f"{component}.lock"

    def make(self) -> None:
        """Create the directory for its owner alone. Raises Invalid where that cannot be."""
        length = len(os.fsencode(self.socket))
        if length > LONGEST_SOCKET:
            raise Invalid(
                f"the path of the API's socket has {length} bytes, at most {LONGEST_SOCKET} are possible: "
                f"{self.socket}",
                remedy="give a shorter --data-dir",
            )
        try:
            for directory in (self.root, self.valkey, self.router, self.aborts):
                make_private(directory)
        except OSError as error:
            raise Invalid(
                f"the data directory {self.root} cannot be made: {error.strerror}",
                remedy="give another one with --data-dir",
            ) from error
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise Invalid(
                f"the data directory {self.root} cannot be written",
                remedy="give another one with --data-dir, or mend its rights",
            )


def write_whole(path: Path, text: str) -> None:
    """Replace a file so that a reader, or a crash, finds the old or the new text and nothing between.

    Only its owner may read it: what is applied holds the environment of services. Raises OSError.
    """
    with staged(path, text) as put_in_place:
        put_in_place()


@contextlib.contextmanager
def staged(path: Path, text: str) -> Iterator[Callable[[], object]]:
    """Write the text beside its place, where it takes the space it needs; the body puts it in place, or not.

    As `write_whole`. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield lambda: temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def mask_key(layout: Layout) -> bytes | None:
    """The key of this data directory, made when there is none; None where that cannot be.

    Whoever has it can try values against their signs, so that it is for its owner alone and leaves the
    directory with no answer.
    """
    try:
        if not layout.mask_key.exists():
            write_whole(layout.mask_key, secrets.token_hex(MASK_KEY_BYTES))
        key = bytes.fromhex(layout.mask_key.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return key if len(key) == MASK_KEY_BYTES else None


@contextlib.contextmanager
def only_one(path: Path, what: str, remedy: str) -> Iterator[HeldLock]:
    """Hold the lock file while the body runs. Raises BadState when another process holds it, Invalid
    when it cannot be made."""
    lock = HeldLock(path)
    try:
        taken = lock.take()
    except OSError as error:
        raise Invalid(
            f"{path} cannot be opened: {error.strerror}", remedy="mend its rights, or name another --data-dir"
        ) from error
    if not taken:
        raise BadState(f"{what} already runs on {path.parent}", remedy=remedy)
    try:
        yield lock
    finally:
        lock.release()


def open_clock(layout: Layout, speed: float) -> Clock:
    """The clock of this data directory.

    A compressed time line is continued where it was: its epoch is kept with the data. Another speed
    than the kept one is refused, because moments already stored would change their meaning.
    """
    if not (math.isfinite(speed) and speed > 0):
        raise Invalid(f"--speed {speed:g} is no speed", remedy="give a number above 0; 1 is real time")
    kept = _kept_clock(layout)
    if kept is None:
        epoch = datetime.now(UTC)
        try:
            write_whole(layout.clock, json.dumps({"epoch": epoch.isoformat(), "speed": speed}))
        except OSError as error:
            raise Invalid(
                f"{layout.clock} cannot be written: {error.strerror}",
                remedy="mend that, or give another directory with --data-dir",
            ) from error
    else:
        epoch, kept_speed = kept
        if kept_speed != speed:
            raise Invalid(
                f"{layout.root} was started with --speed {kept_speed:g}; found --speed {speed:g}",
                remedy=f"use --speed {kept_speed:g} here, or another --data-dir",
            )
    return RealClock() if speed == 1 else ScaledClock(speed, epoch)


def kept_clock(layout: Layout) -> Clock:
    """The clock of this data directory, whatever its speed; real time where that is not known."""
    try:
        kept = _kept_clock(layout)
    except Invalid:
        kept = None
    return RealClock() if kept is None or kept[1] == 1 else ScaledClock(kept[1], kept[0])


class _TimeLine(BaseModel):
    """What `clock.json` holds."""

    model_config = ConfigDict(strict=True)

    epoch: AwareDatetime
    speed: float = Field(gt=0, allow_inf_nan=False)


def _kept_clock(layout: Layout) -> tuple[datetime, float] | None:
    """Epoch and speed of the time line in this directory, or None where there is none yet."""
    try:
        kept = _TimeLine.model_validate_json(layout.clock.read_bytes())
        return _epoch(kept), kept.speed
    except FileNotFoundError:
        return None
    except ValidationError as error:
        reason = _first_fault(error)
    except (OSError, ValueError) as error:
        reason = str(error)
    raise Invalid(
        f"{layout.clock} cannot be read: {reason}",
        remedy="give another directory with --data-dir; or remove the file, and time begins anew",
    )


def _first_fault(error: ValidationError) -> str:
    """The first field that is wrong, and what was found there."""
    fault = error.errors()[0]
    field = ".".join(map(str, fault["loc"]))
    if fault["type"] == "missing":
        return f"{field} is missing"
    return f"{field} is {fault['input']!r}: {fault['msg']}" if field else fault["msg"]


def _epoch(kept: _TimeLine) -> datetime:
    """The epoch in UTC. Raises ValueError where no moment can be told on its time line, now or soon."""
    first, last = _YEARS
    try:
        epoch = kept.epoch.astimezone(UTC)
        year = ScaledClock(kept.speed, epoch).now().year
    except OverflowError:
        epoch, year = kept.epoch, 0
    if not (first <= year <= last and first <= epoch.year <= last):
        raise ValueError(
            f"epoch is {kept.epoch}: at speed {kept.speed:g} it is no year from {first} to {last}"
        )
    return epoch

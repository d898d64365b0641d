"""A lease in the object store: of all machines that share it, one at a time, and never by a clock of theirs.

with leases(store, holder)("locks/redis.json") as fence:
    ...
    fence.check()    # before what others must not do meanwhile
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta

from phoenix_orch.kernel.errors import Conflict, NotFound, PhoenixError, Terminal
from phoenix_orch.recovery.lease_rules import Lease, Take, Wait, decide
from phoenix_orch.recovery.objects import ObjectStore

TTL = timedelta(seconds=60)
_RENEWALS = 3
"""In the time that a lease lasts."""


class HeldLease:
    """One that was taken. `renew` it well within its time; `check` says whether it is still held."""

    def __init__(
        self,
        store: ObjectStore,
        key: str,
        lease: Lease,
        etag: str,
        *,
        sent: float,
        clock: Callable[[], float],
    ) -> None:
        """`sent`: by `clock`, in seconds, before the request that took it."""
        self.abandoned: Lease | None = None
        """The one before, when its holder never gave it back: what it began has no end."""
        self._store, self._key, self._lease = store, key, lease
        self._etag, self._until = etag, sent + lease.ttl_seconds
        self._clock = clock
        self._lost = False
        self._busy = threading.Lock()

    @property
    def generation(self) -> int:
        return self._lease.generation

    def check(self) -> None:
        """Raises Conflict when it is lost, or may be."""
        if self._lost or self._clock() >= self._until:
            raise Conflict(
                f"the lease {self._key} was lost", remedy="another run goes on; look at phoenix backup list"
            )

    def renew(self) -> None:
        """Raises Conflict when another one has taken it; whatever the store raises: try again in time."""
        with self._busy:
            self.check()
            self._write()

    def outgrow(self, generation: int) -> None:
        """Go on counting from there, when whoever removed the object of the lease made it begin anew: what
        was done under earlier ones would seem to be of later ones.

        Only who holds it can. Raises Conflict when another one has taken it.
        """
        with self._busy:
            self.check()
            if self._lease.generation > generation:
                return
            self._lease = replace(self._lease, generation=generation + 1)
            self._write()

    def give_back(self) -> None:
        """So that nobody has to wait. No error when it is lost."""
        with self._busy:
            self._lost = True
            empty = replace(self._lease, holder="")
            with contextlib.suppress(PhoenixError):  # it runs out by itself
                self._store.replace(self._key, empty.encoded(), self._etag)

    def _write(self) -> None:
        """It holds from the moment before it is stored."""
        sent = self._clock()
        try:
            etag = self._store.replace(self._key, self._lease.encoded(), self._etag)
        except Conflict:
            etag = self._after_a_lost_answer()
        self._etag, self._until = etag, sent + self._lease.ttl_seconds

    def _after_a_lost_answer(self) -> str:
        """The conflict may be with our own renewal, whose answer was lost."""
        with contextlib.suppress(NotFound):
            raw, stat = self._store.get(self._key)
            if Lease.decoded(raw) == self._lease:
                return stat.etag
        self._lost = True
        raise Conflict(f"the lease {self._key} was taken by another", remedy="look at phoenix backup list")


def taken(
    store: ObjectStore,
    key: str,
    holder: str,
    *,
    ttl: timedelta = TTL,
    clock: Callable[[], float] = time.monotonic,
    heir: bool = False,
) -> HeldLease:
    """Raises Conflict when somebody has it, saying who, and how long at most. `clock`: of a stopwatch.

    `heir`: nobody else of this name lives, so that what it left is ours.
    """
    nonce = secrets.token_hex(8)
    sent = clock()
    found, etag = None, ""
    try:
        raw, stat = store.get(key)
    except NotFound:
        decision = decide(None, store.now(), store.now(), holder=holder, nonce=nonce, ttl=ttl)
    else:
        etag, found = stat.etag, Lease.decoded(raw)
        if found is None:
            raise Terminal(f"{key} is no lease", remedy="something else wrote it: see what, and remove it")
        decision = decide(found, stat.modified, store.now(), holder=holder, nonce=nonce, ttl=ttl, heir=heir)
    if isinstance(decision, Wait):
        raise Conflict(
            f"{decision.holder} has the lease {key} for at most {decision.left.total_seconds():.0f} s more",
            remedy="wait; it is free when that run has ended",
        )
    held = HeldLease(store, key, decision.lease, _written(store, key, decision, etag), sent=sent, clock=clock)
    held.abandoned = decision.abandoned
    return held


def _written(store: ObjectStore, key: str, decision: Take, etag: str) -> str:
    raw = decision.lease.encoded()
    try:
        if etag:
            return store.replace(key, raw, etag)
        store.create(key, raw)
    except Conflict:
        pass  # another was quicker, or the answer to our own request was lost
    content, stat = store.get(key)
    if content != raw:
        raise Conflict(
            f"another run took the lease {key} first", remedy="wait; it is free when that has ended"
        )
    return stat.etag


def leases(
    store: ObjectStore, holder: str, *, ttl: timedelta = TTL, heir: bool = False
) -> Callable[[str], AbstractContextManager[HeldLease]]:
    """Takes the lease of a key and keeps it while the block runs, by a thread. `heir`: as `taken` has it.

    Raises Conflict.
    """

    @contextlib.contextmanager
    def lease(key: str) -> Iterator[HeldLease]:
        held = taken(store, key, holder, ttl=ttl, heir=heir)
        ended = threading.Event()
        keeper = threading.Thread(target=_keep, args=(held, ended, ttl), name="phoenix-lease", daemon=True)
        keeper.start()
        try:
            yield held
        finally:
            ended.set()
            keeper.join()
            held.give_back()

    return lease


def _keep(held: HeldLease, ended: threading.Event, ttl: timedelta) -> None:
    interval = ttl.total_seconds() / _RENEWALS
    wait = interval
    while not ended.wait(wait):
        try:
            held.renew()
        except Conflict:
            return  # `check` tells it
        except PhoenixError:
            wait = interval / 5
        else:
            wait = interval

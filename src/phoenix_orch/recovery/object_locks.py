"""Keeps what was stored from being removed, by anybody, for a time: Object Lock of a bucket."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta

from phoenix_orch.kernel.errors import BadState, PhoenixError
from phoenix_orch.recovery.bucket_admin import BucketAdmin, BucketState


class ObjectLocks:
    """Of one bucket. What the bucket is like is asked once."""

    def __init__(self, admin: BucketAdmin, wanted: timedelta | None) -> None:
        """`wanted`: None: as the bucket locks by itself."""
        self._admin = admin
        self._wanted = wanted
        self._state: BucketState | None = None

    def lock(self, key: str, now: datetime) -> datetime | None:
        """Until when it is kept; None where the bucket keeps nothing.

        Raises BadState where a lock is wanted that the bucket does not have, and what the storage raises.
        """
        state = self._asked()
        if self._wanted is None:
            return None if state is None or state.default_lock is None else now + state.default_lock
        if state is None or not state.locked:
            raise BadState(
                "backup.storage.s3.lock is set, and the bucket has no Object Lock",
                remedy="leave lock out, or use a bucket that was made with Object Lock",
            )
        until = now + self._wanted
        self._admin.retain_until(key, until)
        return until

    def _asked(self) -> BucketState | None:
        """None: whoever writes backups may not ask; that is needed for a lock alone."""
        if self._state is None:
            with contextlib.ExitStack() as stack:
                if self._wanted is None:
                    stack.enter_context(contextlib.suppress(PhoenixError))
                self._state = self._admin.state()
        return self._state

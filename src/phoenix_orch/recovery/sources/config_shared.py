"""Configuration that several replicas back up in turn: whoever does goes on with what the last one published.

The storage has the history; what a replica has of it is a copy. One that another replica has gone past is
dropped, and rebuilt from the newest bundle.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.recovery import sign_key
from phoenix_orch.recovery.backup_source import Capture
from phoenix_orch.recovery.config_repository import ConfigRepository
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.signing import Signer
from phoenix_orch.recovery.sources.config import REPOSITORY, ConfigSource
from phoenix_orch.runtime.files import make_private

_OF_DIGESTS = b"phoenix: the key of the signs of unchanged secrets"


class SharedConfigSource:
    """See `BackupSource`. It is captured under the lease of its component: by one replica at a time."""

    component = ConfigSource.component

    def __init__(
        self, source: ConfigSource, state: Path, signer: Signer, newest: Callable[[], str | None]
    ) -> None:
        """`state`: that of `source`. `newest`: the commit that was published last; None: there is none."""
        self._source = source
        self._state = state
        self._signer = signer
        self._newest = newest

    def capture(self) -> AbstractContextManager[Capture]:
        make_private(self._state)
        _share_key(sign_key.where(self._state), self._signer)
        newest = self._newest()
        directory = self._state / REPOSITORY
        if newest is not None and _head(directory) != newest:
            shutil.rmtree(directory, ignore_errors=True)  # its source makes it anew from the storage
        return self._source.capture()


def _head(directory: Path) -> str | None:
    with contextlib.suppress(NotFound, Corrupted), ConfigRepository.open(directory) as found:
        return found.head().decode()
    return None


def _share_key(path: Path, signer: Signer) -> None:
    """The same at each replica, and known to whoever can sign: else each would find every secret changed.

    A signature by Ed25519 is always the same for the same words, and these are no record: it is in no bucket.
    """
    key = hashlib.sha256(signer.sign(_OF_DIGESTS)).hexdigest()
    with contextlib.suppress(OSError):
        if path.read_text("ascii") == key:
            return
    path.touch(mode=0o600)
    path.write_text(key, "ascii")

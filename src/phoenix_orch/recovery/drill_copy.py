"""One copy that is recovered: found in the catalog, fetched as it is stored, opened with the keys at hand.

What is fetched is sealed, so that nothing readable lies on a disk but where a rehearsal needs it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from phoenix_orch.recovery.drill_report import Phase
from phoenix_orch.recovery.drill_steps import Ledger, Subject
from phoenix_orch.recovery.errors import Corrupted, Stopped
from phoenix_orch.recovery.handover import Handover, OtherSide
from phoenix_orch.recovery.keys import Identity
from phoenix_orch.recovery.manifest import Manifest
from phoenix_orch.recovery.objects import ObjectStore, Reader, Writer
from phoenix_orch.recovery.pipeline import CHUNK, unseal
from phoenix_orch.recovery.verifying import expected

_REMEDY = "use another backup; `phoenix backup list` shows which hold"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A copy in a file of ours, still sealed."""

    manifest: Manifest
    subject: Subject
    file: Path
    identities: Sequence[Identity]

    def open(self, sink: Writer, moved: Callable[[int], None], stop: Callable[[], bool]) -> None:
        """The content into `sink`, proven when this returns. Raises Corrupted, WrongKey, Stopped."""
        with self.file.open("rb") as source:
            unseal(source, sink, self.identities, expected(self.manifest), progress=moved, stop=stop)

    @contextlib.contextmanager
    def opened(self, moved: Callable[[int], None], stop: Callable[[], bool]) -> Iterator[Reader]:
        """The content as something to read; proven when the block has ended well."""
        handover = Handover()

        def work() -> None:
            self.open(handover, moved, stop)
            handover.end()

        with OtherSide(handover, work) as side:
            yield handover
            while handover.read(CHUNK):  # what follows the end of an archive is proven, too
                pass
            side.result()


class _Nowhere:
    def write(self, data: bytes, /) -> int:
        return len(data)


@contextlib.contextmanager
def fetched(ledger: Ledger, store: ObjectStore, copy: Fetched) -> Iterator[Fetched]:
    """Downloaded to its file and seen to open, for one block. Raises StepFailedError."""
    try:
        with ledger.step(Phase.DOWNLOAD, copy.subject) as note:
            _download(store, copy, note.moved, ledger.stop)
            note.detail = "the digest of what is stored holds"
        with ledger.step(Phase.DECRYPT, copy.subject) as note:
            copy.open(_Nowhere(), note.moved, ledger.stop)
            note.detail = "the digest of its content holds"
        yield copy
    finally:
        copy.file.unlink(missing_ok=True)


def _download(
    store: ObjectStore, copy: Fetched, moved: Callable[[int], None], stop: Callable[[], bool]
) -> None:
    """The data object as it is stored. Raises Corrupted, NotFound, Stopped, OSError."""
    stream, found, size = copy.manifest.stream, hashlib.sha256(), 0
    with store.reader(stream.key) as reader, copy.file.open("xb") as file:
        while chunk := reader.read(CHUNK):
            if stop():
                raise Stopped("the drill was stopped; nothing was recorded", remedy="start it again")
            file.write(chunk)
            found.update(chunk)
            size += len(chunk)
            moved(size)
    if (size, found.hexdigest()) != (stream.stored_bytes, stream.stored_sha256):
        raise Corrupted(
            f"what is stored is not what was written: {size:,} bytes with SHA-256 "
            f"{found.hexdigest()[:12]}…, and {stream.stored_bytes:,} with {stream.stored_sha256[:12]}… were",
            remedy=_REMEDY,
        )

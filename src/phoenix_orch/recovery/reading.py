"""The content of a backup as something to read from, while it is fetched and opened in another thread."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from phoenix_orch.recovery.handover import Handover, OtherSide
from phoenix_orch.recovery.keys import Identity
from phoenix_orch.recovery.manifest import Manifest
from phoenix_orch.recovery.objects import ObjectStore, Reader
from phoenix_orch.recovery.pipeline import CHUNK, unseal
from phoenix_orch.recovery.verifying import expected


@contextlib.contextmanager
def content(
    store: ObjectStore,
    manifest: Manifest,
    identities: Sequence[Identity],
    *,
    etag: str = "",
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Reader]:
    """What was backed up; the block ends well only when all of it was what the manifest says.

    Within the block nothing is proven: whoever may write to the storage can seal anything for our recipients,
    and the digests of all of it tell at its end. So what acts on it as it comes reads it to the end first,
    and then again with the `etag` that it had: Conflict where it is another one by then. `progress`: bytes.
    Raises Corrupted, WrongKey, and what the store raises.
    """
    handover = Handover()
    with store.reader(manifest.stream.key, etag=etag) as stored:

        def work() -> None:
            unseal(stored, handover, identities, expected(manifest), progress=progress)
            handover.end()

        with OtherSide(handover, work) as side:
            yield handover
            while handover.read(CHUNK):
                pass
            side.result()

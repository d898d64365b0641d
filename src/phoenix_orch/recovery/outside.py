"""What of a backup lies in another place than its storage, and has to go with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from phoenix_orch.recovery.catalog import View
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.manifest import Manifest
from phoenix_orch.recovery.sources.snapshot_plan import ENGINE, Taken, facts_of


class Outside(Protocol):
    """Everything blocks, and may be done again."""

    def let_go(self, facts: Mapping[str, Any]) -> None:
        """`facts`: as the tombstone has them. For good, also where only the place itself still knows of it.
        Raises PhoenixError: then it is tried again."""
        ...

    def left_over(self, view: View) -> Sequence[str]:
        """What runs that died have left there of a scope, in words that `sweep` takes."""
        ...

    def sweep(self, left: str) -> None: ...


def outside_of(manifest: Manifest) -> dict[str, Any]:
    """What of a backup lies in the storage of a cluster, and not with the backups: `facts_of` it; empty for
    every other kind of backup. Raises Corrupted."""
    if manifest.engine.get("name") != ENGINE:
        return {}
    source, content = manifest.source, manifest.content
    try:
        return facts_of(
            Taken(
                namespace=source["namespace"],
                claim=source["claim"],
                snapshot=source["snapshot"],
                content=source["content"],
                handle=content["snapshotHandle"],
                driver=manifest.engine["driver"],
                snapshot_class=manifest.engine["class"],
                restore_size=content["restoreSize"],
                size=content["restoreSize"],
                created=content["createdByStorage"],
                volume_mode=source["volumeMode"],
            )
        )
    except KeyError as error:
        raise Corrupted(f"the manifest of {manifest.id} does not say {error} of its snapshot") from None

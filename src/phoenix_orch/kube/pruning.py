"""What of an object is kept in memory. Pure."""

from __future__ import annotations

import functools
from collections.abc import Callable

from phoenix_orch.kube.resources import Object

Prune = Callable[[Object], Object]
"""Makes an object smaller; may change the one it is given."""

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def without_bookkeeping(found: Object) -> Object:
    """Without the API server's records of who wrote which field: often half of an object."""
    metadata = found["metadata"]
    metadata.pop("managedFields", None)
    annotations = metadata.get("annotations")
    if annotations:
        annotations.pop(_LAST_APPLIED, None)
    return found


@functools.cache  # the same fields are the same way, for `Caches`
def without(*paths: str) -> Prune:
    """Also without the fields at `paths`, written as `spec.template.spec`; annotations have none here."""
    split = [path.split(".") for path in paths]

    def prune(found: Object) -> Object:
        without_bookkeeping(found)
        for *parents, leaf in split:
            place = found
            for parent in parents:
                place = place.get(parent) or {}
            place.pop(leaf, None)
        return found

    return prune

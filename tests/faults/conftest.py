"""What faults of a real API server need."""

from __future__ import annotations

from tests.cluster.conftest import (  # noqa: F401 - some faults are those of a real API server
    cluster,
    control_plane,
    kube,
    namespace,
    pytest_collection_finish,
)

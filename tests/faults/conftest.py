"""Asserts of the helpers tell as much as those of the tests."""

from __future__ import annotations

import pytest
from tests.cluster.conftest import (  # noqa: F401 - some faults are those of a real API server
    cluster,
    control_plane,
    kube,
    namespace,
    pytest_collection_finish,
)

pytest.register_assert_rewrite("tests.faults.story", "tests.faults.story_cases")

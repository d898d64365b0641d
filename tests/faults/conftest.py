"""Asserts of the helpers tell as much as those of the tests."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.faults.story", "tests.faults.story_cases")

"""The API server and the models say yes and no to the same specs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from pydantic import ValidationError
from tests.cluster import rollouts, specs
from tests.cluster.kubectl import Cluster
from tests.cluster.rollouts import Door

from phoenix_orch.rollout import crd
from phoenix_orch.rollout.kubernetes_spec import read

SCHEMA = crd.schema()["properties"]["spec"]


@pytest.fixture(scope="module")
def door(cluster: Cluster) -> Iterator[Door]:
    rollouts.define(cluster)
    with rollouts.door(cluster) as opened:
        yield opened


def fault(spec: Any) -> str:
    """What pydantic says against it."""
    try:
        read(rollouts.manifest(spec))
    except ValidationError as error:
        return str(error)
    return ""


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(spec=specs.specs(SCHEMA))
def test_both_take_the_same_specs(door: Door, spec: Any) -> None:
    said, found = door.refusal(spec), fault(spec)
    event(f"valid: {not found}")
    assert bool(said) == bool(found), f"API server: {said or 'taken'}\nmodel: {found or 'taken'}\n{spec}"

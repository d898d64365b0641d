"""Claims in a phoenix.yaml of a cluster: what is refused, what is left out, and the schedule."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from tests.backup_stage import IDENTITY, OFFLINE

from phoenix_orch.orchestrator.backup_tasks import schedules
from phoenix_orch.orchestrator.backups import member_of
from phoenix_orch.orchestrator.cluster.file import ClusterFile
from phoenix_orch.recovery.cluster_spec import ClusterBackupSpec
from phoenix_orch.recovery.sources.claim_spec import ClaimSpec


def backup(**more: Any) -> ClusterBackupSpec:
    return ClusterBackupSpec.model_validate(
        {
            "cluster": "test",
            "storage": {"folder": "/mnt"},
            "signingKeyFile": "signing.pem",
            "identityFile": "online.key",
            "recipients": [
                {"name": "here", "key": IDENTITY.public},
                {"name": "safe", "key": OFFLINE.public, "offline": True},
            ],
            **more,
        }
    )


def test_claims_are_scheduled_every_two_hours() -> None:
    spec = backup(claims={"shop": {"claim": "data"}, "db": {"labels": {"app": "db"}}})
    found = {one.name: one for one in schedules(ClusterFile(backup=spec))}
    for name in ("shop", "db"):
        one = found[f"backup-volume-{name}"]
        assert one.timing.every == timedelta(hours=2)
        assert one.arguments == {"component": f"volume/{name}"}
    assert ClusterBackupSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ({}, "either claim"),
        ({"claim": "data", "labels": {"app": "db"}}, "either claim"),
        ({"claim": "Data"}, "claim"),
        ({"claim": "data", "quiesce": {"before": [{"command": ["x"]}]}}, "write url"),
        (
            {
                "claim": "data",
                "checks": [{"kind": "json", "files": "*"}],
                "verify": {"command": ["x"]},
            },
            "takes the place of checks",
        ),
        ({"claim": "data", "timeout": "3h"}, "timeout"),
        ({"claim": "data", "verify": {"folder": "/abs"}}, "folder"),
        ({"claim": "data", "verify": {"user": 0}}, "user"),
    ],
)
def test_what_cannot_be_done_is_refused(claim: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ClaimSpec.model_validate(claim)


def test_folders_of_one_machine_are_refused_in_a_cluster() -> None:
    with pytest.raises(ValidationError, match="write claims"):
        backup(volumes={"shop": {"path": "/x"}})


def test_a_selector_is_as_kubectl_takes_it() -> None:
    assert ClaimSpec(labels={"b": "2", "a": "1"}).selector == "a=1,b=2"


def test_which_components_belong_to_one_that_stands_for_several() -> None:
    assert member_of("volume/shop.data-0", ["volume/shop"])
    assert not member_of("volume/shop", ["volume/shop"])
    assert not member_of("volume/shopping.data-0", ["volume/shop"])
    assert not member_of("redis/shop.shard0", ["redis/shop"])

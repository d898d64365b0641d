"""When a workload serves with its newest template."""

from __future__ import annotations

import pytest

from phoenix_orch.recovery.restore.config_rolled import Progress, progress

WHOLE = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "observedGeneration": 3}
LATE = {"conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]}


def deployment(spec=None, **status):
    return {
        "metadata": {"generation": 3},
        "spec": {"replicas": 2} if spec is None else spec,
        "status": status,
    }


@pytest.mark.parametrize(
    ("status", "seen"),
    [
        (WHOLE, Progress.DONE),
        ({**WHOLE, "observedGeneration": 2}, Progress.GOING),
        ({**WHOLE, "updatedReplicas": 1}, Progress.GOING),
        ({**WHOLE, "replicas": 3}, Progress.GOING),
        ({**WHOLE, "availableReplicas": 1}, Progress.GOING),
        ({**WHOLE, "availableReplicas": 1, **LATE}, Progress.FAILED),
        ({**WHOLE, "observedGeneration": 2, **LATE}, Progress.GOING),
        ({}, Progress.GOING),
    ],
)
def test_a_deployment(status, seen):
    assert progress(deployment(**status), "Deployment") is seen


def test_none_is_a_size_and_left_out_is_one():
    assert progress(deployment({"replicas": 0}, observedGeneration=3), "Deployment") is Progress.DONE
    assert progress(deployment({}, observedGeneration=3), "Deployment") is Progress.GOING


def test_a_stateful_set_by_its_revisions():
    status = {"observedGeneration": 3, "readyReplicas": 2, "currentRevision": "b", "updateRevision": "b"}
    assert progress(deployment(**status), "StatefulSet") is Progress.DONE
    assert progress(deployment(**status | {"currentRevision": "a"}), "StatefulSet") is Progress.GOING
    assert progress(deployment(**status | {"readyReplicas": 1}), "StatefulSet") is Progress.GOING
    by_hand = {"replicas": 2, "updateStrategy": {"type": "OnDelete"}}
    assert progress(deployment(by_hand, **status | {"currentRevision": "a"}), "StatefulSet") is Progress.DONE


def test_a_daemon_set_by_its_nodes():
    status = {
        "observedGeneration": 3,
        "desiredNumberScheduled": 2,
        "updatedNumberScheduled": 2,
        "numberAvailable": 2,
    }
    assert progress(deployment({}, **status), "DaemonSet") is Progress.DONE
    assert progress(deployment({}, **status | {"updatedNumberScheduled": 1}), "DaemonSet") is Progress.GOING
    by_hand = {"updateStrategy": {"type": "OnDelete"}}
    assert (
        progress(deployment(by_hand, **status | {"updatedNumberScheduled": 0}), "DaemonSet") is Progress.DONE
    )

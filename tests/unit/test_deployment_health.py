"""What pods tell of a version, and what they tell of the cluster."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.unit.deployment_setting import NOW, deployment, event, pod, ready, stamp

from phoenix_orch.workload.deployment.health import Health, deployment_troubles, health
from phoenix_orch.workload.workload import InstanceState


def look(found: dict[str, Any], *events: dict[str, Any]) -> Health:
    return health([found], events, {found["metadata"]["uid"]: "r"})


def state(found: dict[str, Any], *events: dict[str, Any]) -> InstanceState:
    (instance,) = look(found, *events).instances
    return instance.state


def container(running: float | None = 2, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": "shop", "restartCount": 0, **fields}
    if running is not None:
        found["state"] = {"running": {"startedAt": stamp(running)}}
    return found


def status(*containers: dict[str, Any], conditions: Any = (), **fields: Any) -> dict[str, Any]:
    return {"containerStatuses": list(containers), "conditions": list(conditions), **fields}


def waiting(reason: str, message: str = "", **fields: Any) -> dict[str, Any]:
    return container(None, state={"waiting": {"reason": reason, "message": message}}, **fields)


def ended(code: int, at: float, reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "finishedAt": stamp(at)}}


# -- states ----------------------------------------------------------------------------------------


def test_ready_since_and_where_it_answers() -> None:
    found = pod(status=status(container(), conditions=[ready(True, 5)]))
    found["metadata"]["annotations"] = {"prometheus.io/scrape": "true", "prometheus.io/port": "9100"}
    (instance,) = look(found).instances
    assert (instance.state, instance.ready_since) == (InstanceState.READY, NOW + timedelta(seconds=5))
    assert (instance.port, instance.metrics_path, instance.revision) == (9100, "/metrics", "r")
    assert instance.started == (NOW + timedelta(seconds=2)).timestamp()


def test_never_ready_is_starting_and_lost_readiness_is_unready() -> None:
    assert state(pod(status=status(container(), conditions=[ready(False, 1)]))) is InstanceState.STARTING
    assert state(pod(status=status(container(), conditions=[ready(False, 9)]))) is InstanceState.UNREADY


def test_a_pending_pod_is_starting_and_a_deleted_one_drains() -> None:
    assert state(pod(status={"phase": "Pending"})) is InstanceState.STARTING
    leaving = pod(status=status(container(), conditions=[ready(True, 5)]), deletionTimestamp=stamp(9))
    assert state(leaving) is InstanceState.DRAINING


def test_one_that_waits_for_its_next_start_is_in_backoff() -> None:
    assert state(pod(status=status(waiting("CrashLoopBackOff")))) is InstanceState.BACKOFF
    assert state(pod(status=status(container(None, state=ended(1, 9))))) is InstanceState.BACKOFF


def test_a_finished_pod_is_no_instance_and_a_strangers_pod_is_not_looked_at() -> None:
    assert look(pod(status={"phase": "Failed", "reason": "Evicted"})).instances == ()
    assert health([pod()], [], {}) == Health()


# -- the version -----------------------------------------------------------------------------------


def test_a_crash_loop_is_an_exit_for_each_restart() -> None:
    crashing = waiting("CrashLoopBackOff", restartCount=3, lastState=ended(1, 50))
    found = look(pod(status=status(crashing)))
    assert [(one.reason, one.code) for one in found.exits] == [("exited", 1)] * 3
    assert found.exits[-1].at == NOW + timedelta(seconds=50)
    assert {one.at for one in found.exits[:-1]} == {NOW + timedelta(seconds=1)}
    assert found.troubles == ()


def test_out_of_memory_is_told_as_such() -> None:
    found = look(pod(status=status(container(restartCount=1, lastState=ended(137, 50, "OOMKilled")))))
    assert [one.reason for one in found.exits] == ["oom"]
    assert found.exits[0].text == "out of memory"


def test_a_failed_liveness_probe_is_told_as_such() -> None:
    shot = pod(status=status(container(restartCount=1, lastState=ended(137, 50))))
    assert [one.reason for one in look(shot).exits] == ["killed"]
    killing = event(shot, "Killing", "Container shop failed liveness probe, will be restarted")
    assert [one.reason for one in look(shot, killing).exits] == ["unhealthy"]


def test_a_pod_that_is_told_to_end_may_end_as_it_likes() -> None:
    leaving = pod(status=status(container(None, state=ended(143, 9))), deletionTimestamp=stamp(8))
    assert look(leaving).exits == ()


def test_an_init_container_that_fails_counts_and_one_that_succeeds_does_not() -> None:
    failing = pod(
        status={"initContainerStatuses": [waiting("CrashLoopBackOff", restartCount=1, lastState=ended(2, 9))]}
    )
    assert [one.code for one in look(failing).exits] == [2]
    done = pod(status={"initContainerStatuses": [container(None, state=ended(0, 9, "Completed"))]})
    assert look(done).exits == ()


@pytest.mark.parametrize(
    "reason", ["ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError", "RunContainerError"]
)
def test_what_cannot_be_started(reason: str) -> None:
    found = look(pod(status=status(waiting(reason, "no such thing"), phase="Pending")))
    assert [one.reason for one in found.exits] == ["cannot-start"]
    assert f"{reason}: no such thing" in found.exits[0].text
    assert found.troubles == ()


def test_a_program_that_could_not_be_run_is_said_to_have_ended() -> None:
    told = ended(128, 9, "StartError")
    found = look(pod(status=status(waiting("CrashLoopBackOff", restartCount=1, lastState=told))))
    assert [one.reason for one in found.exits] == ["cannot-start"]


def test_an_image_that_does_not_exist_counts_for_every_attempt() -> None:
    pulling = pod(status=status(waiting("ImagePullBackOff", "Back-off pulling image"), phase="Pending"))
    failed = event(pulling, "Failed", 'Failed to pull image "shop:2": not found', count=4)
    backing_off = event(pulling, "Failed", "Error: ImagePullBackOff", count=40)
    found = look(pulling, failed, backing_off)
    assert [one.reason for one in found.exits] == ["cannot-start"] * 4
    assert "not found" in found.exits[0].text
    assert found.exits[0].at == NOW + timedelta(seconds=60)


def test_an_eviction_for_its_own_use_is_its_own_doing() -> None:
    told = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi."
    disrupted = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "TerminationByKubelet",
        "lastTransitionTime": stamp(70),
    }
    found = look(pod(status=status(conditions=[disrupted], phase="Failed", reason="Evicted", message=told)))
    assert [one.detail for one in found.exits] == [told]
    assert found.exits[0].at == NOW + timedelta(seconds=70)
    assert found.troubles == ()


# -- the cluster -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
            "Evicted",
        ),
        ({"phase": "Failed", "reason": "NodeShutdown"}, "NodeShutdown"),
        ({"phase": "Failed", "reason": "OutOfcpu"}, "OutOfcpu"),
        ({"phase": "Unknown"}, "NodeLost"),
        (
            {
                "conditions": [
                    {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
                ]
            },
            "PreemptionByScheduler",
        ),
        (
            {
                "phase": "Pending",
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes are available",
                    }
                ],
            },
            "FailedScheduling",
        ),
        (
            {"phase": "Pending", "containerStatuses": [waiting("ErrImagePull", "dial tcp: i/o timeout")]},
            "RegistryUnavailable",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_cluster_does_is_no_exit_of_the_version(fields: dict[str, Any], reason: str) -> None:
    crashed = status(container(None, state=ended(137, 9))) if fields.get("phase") == "Failed" else {}
    found = look(pod(status={**crashed, **fields}))
    assert [one.reason for one in found.troubles] == [reason]
    assert found.exits == ()
    assert reason in found.blocked()


def test_a_container_of_a_lost_node_says_nothing() -> None:
    lost = container(restartCount=1, lastState=ended(137, 9, "ContainerStatusUnknown"))
    assert look(pod(status=status(lost))).exits == ()


def test_a_volume_that_cannot_be_attached_is_the_clusters() -> None:
    stuck = pod(status=status(waiting("ContainerCreating"), phase="Pending"))
    found = look(stuck, event(stuck, "FailedAttachVolume", "Multi-Attach error"))
    assert [(one.reason, one.message) for one in found.troubles] == [
        ("FailedAttachVolume", "Multi-Attach error")
    ]


@pytest.mark.parametrize(
    ("message", "cluster"),
    [
        ('pods "shop-1" is forbidden: exceeded quota: small, requested: pods=1', True),
        ('Internal error occurred: failed calling webhook "policy"', True),
        ('pods "shop-1" is forbidden: violates PodSecurity "restricted:latest"', False),
    ],
)
def test_pods_that_are_not_made(message: str, cluster: bool) -> None:
    found = deployment()
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    found["status"] = {"conditions": [condition]}
    troubles, refused = deployment_troubles(found)
    assert (bool(troubles), bool(refused)) == (cluster, not cluster)
    assert deployment_troubles(deployment()) == ((), "")


def test_events_of_the_newer_group_are_read_alike() -> None:
    pulling = pod(status=status(waiting("ImagePullBackOff"), phase="Pending"))
    newer = {
        "regarding": {"kind": "Pod", "uid": pulling["metadata"]["uid"], "fieldPath": "spec.containers{shop}"},
        "reason": "Failed",
        "note": "Failed to pull image: not found",
        "series": {"count": 3, "lastObservedTime": stamp(80)},
    }
    assert [one.at for one in look(pulling, newer).exits] == [NOW + timedelta(seconds=80)] * 3

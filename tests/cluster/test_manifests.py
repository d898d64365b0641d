"""What `k8s/` describes, on a real API server."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.cluster import deployed, rollouts
from tests.cluster.awaiting import eventually
from tests.cluster.kubectl import Cluster
from tests.cluster.plane import ControlPlane

ROOT = Path(__file__).parents[2]
BASE, CANARY = str(ROOT / "k8s/base"), ROOT / "k8s/canary"
NAMESPACE = "phoenix-orch"
DEPLOYMENTS = ("health-validator", "master-orchestrator", "rollback-controller")


def apply_base(cluster: Cluster) -> list[str]:
    """What kubectl did, object by object, in a namespace made before. The definition has to be served before
    Rollouts are."""
    deployed.make_namespace(cluster)
    return applied(cluster)


def applied(cluster: Cluster) -> list[str]:
    return cluster.kubectl("apply", "-k", BASE).splitlines()


def versions(cluster: Cluster) -> dict[tuple[str, str], str]:
    """What changes when somebody changes an object, by kind and name: kubectl says `configured` of some that
    it sends again just as they are. Of what has one the generation, which no status moves."""
    found = json.loads(cluster.kubectl("get", "-k", BASE, "-o", "json"))["items"]
    return {
        (one["kind"], one["metadata"]["name"]): str(
            one["metadata"].get("generation") or one["metadata"]["resourceVersion"]
        )
        for one in found
    }


def test_applying_it_twice_changes_nothing_and_its_pods_are_admitted(control_plane: ControlPlane) -> None:
    """The namespace enforces the strictest of the pod security standards; it is not the base's own."""
    first = apply_base(control_plane)
    assert {line.rpartition(" ")[2] for line in first} == {"created"}
    before = versions(control_plane)
    assert len(before) == len(first)
    assert "Namespace" not in {kind for kind, _ in before}
    applied(control_plane)
    assert versions(control_plane) == before

    def pods() -> list[str]:
        found = control_plane.get("pods", "-n", NAMESPACE)["items"]
        return sorted(pod["metadata"]["labels"]["app"] for pod in found)

    eventually("all pods are admitted", lambda: pods() == sorted(DEPLOYMENTS * 2))


def test_the_files_of_the_guide_are_taken_as_they_are(control_plane: ControlPlane) -> None:
    apply_base(control_plane)
    rollouts.established(control_plane)
    for name in ("ingress.yaml", "deployment.yaml", "traffic-control.yaml", "rollout.yaml"):
        said = control_plane.kubectl("apply", "-f", str(CANARY / name))
        assert said.endswith(" created\n")
        again = control_plane.kubectl("apply", "-f", str(CANARY / name))
        assert again.endswith(" unchanged\n")
    shown = control_plane.kubectl("get", "ingress", "-n", NAMESPACE, "--no-headers").splitlines()
    assert {line.split()[0] for line in shown} == {"master-orchestrator", "master-orchestrator-canary"}
    for what in ("history", "status"):
        words = ("rollout", what, "deployment/master-orchestrator", "-n", NAMESPACE)
        watch = ("--watch=false",) if what == "status" else ()
        assert control_plane.kubectl(*words, *watch)
    written = (CANARY / "traffic-control.yaml").read_text("utf-8")
    assert 'nginx.ingress.kubernetes.io/canary-weight: "5"' in written


def test_each_deployment_has_an_account_of_its_own_that_may_not_do_what_others_do(
    control_plane: ControlPlane,
) -> None:
    apply_base(control_plane)

    def may(account: str, verb: str, what: str) -> bool:
        user = f"--as=system:serviceaccount:{NAMESPACE}:{account}"
        words = ("auth", "can-i", "--list", user, "-n", NAMESPACE, "--no-headers")
        lines = control_plane.kubectl(*words).splitlines()
        rights = {line.split()[0]: re.findall(r"[a-z]+", line.rpartition("[")[2]) for line in lines if line}
        return verb in rights.get(what, [])

    changes = {
        (account, what): may(account, "patch", what)
        for account in DEPLOYMENTS
        for what in ("deployments.apps", "ingresses.networking.k8s.io")
    }
    assert changes == {
        ("master-orchestrator", "deployments.apps"): True,
        ("master-orchestrator", "ingresses.networking.k8s.io"): True,
        ("health-validator", "deployments.apps"): False,
        ("health-validator", "ingresses.networking.k8s.io"): False,
        ("rollback-controller", "deployments.apps"): False,
        ("rollback-controller", "ingresses.networking.k8s.io"): True,
    }

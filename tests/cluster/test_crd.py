"""The Rollout as a resource of a cluster: defaults, appliers, columns, conditions, its page's example."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.cluster import rollouts
from tests.cluster.kubectl import Cluster
from tests.cluster.rollouts import LEAST, RESOURCE, manifest

from phoenix_orch.health_validator.observation import Category, MetricEvidence, Verdict, VerdictKind
from phoenix_orch.rollout import crd
from phoenix_orch.rollout.conditions import conditions
from phoenix_orch.rollout.kubernetes_spec import KubernetesRolloutSpec
from phoenix_orch.rollout.kubernetes_status import KubernetesStatus, Wanted, summary
from phoenix_orch.rollout.status import (
    Cause,
    Command,
    CommandKind,
    State,
    Verification,
    VerifyStep,
)
from phoenix_orch.schema import rollout_page

PAGE = Path(__file__).parents[2] / rollout_page.PATH
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
FULL = KubernetesStatus(
    state=State.PROGRESSING,
    since=NOW,
    message="5% of the traffic",
    stable="aaaa000000",
    canary="bbbb000000",
    release=7,
    release_started=NOW,
    step=1,
    step_clock=NOW,
    weight=20,
    weight_seen=19,
    phase="expanded",
    resume_to=State.STARTING,
    cause=Cause(
        revision="cccc000000",
        trigger="verdict",
        reason="errors",
        at=NOW,
        evidence=(
            MetricEvidence(metric="errorRate", observed=0.1, limit=float("inf"), e_limit=float("inf")),
        ),
    ),
    verification=Verification(
        kind="rollback",
        revision="aaaa000000",
        release=6,
        at=NOW,
        steps=(VerifyStep(name="logs", ok=True, detail="none"),),
    ),
    handled=("a", "b"),
    observed_generation=3,
    verdict=summary(
        Verdict(
            kind=VerdictKind.CONTINUE,
            category=Category.PROGRESS,
            revision="bbbb000000",
            step=1,
            at=NOW,
            reason="within limits",
        )
    ),
    wanted=Wanted(target="bbbb000000", applied="bbbb000000", replicas=3),
    commands=(Command(id="c", kind=CommandKind.PAUSE, actor="ann", at=NOW, reason="look"),),
)


@pytest.fixture
def there(cluster: Cluster, namespace: str) -> str:
    """A namespace in which the least rollout is."""
    rollouts.define(cluster)
    cluster.apply(manifest(LEAST, namespace=namespace))
    return namespace


def write_status(cluster: Cluster, namespace: str, status: Any) -> None:
    patch = json.dumps({"status": status})
    words = ("patch", RESOURCE, "shop", "--namespace", namespace, "--subresource=status", "--type=merge")
    cluster.kubectl(*words, "--patch", patch)


def get(cluster: Cluster, namespace: str) -> Any:
    return cluster.get(RESOURCE, "shop", "--namespace", namespace)


def as_json(status: KubernetesStatus) -> Any:
    return json.loads(status.model_dump_json(by_alias=True, exclude_none=True))


def test_what_is_left_out_is_written_and_means_the_same(cluster: Cluster, there: str) -> None:
    spec = get(cluster, there)["spec"]
    assert KubernetesRolloutSpec.model_validate(spec) == KubernetesRolloutSpec.model_validate(LEAST)
    assert [phase["name"] for phase in spec["phases"]] == ["initial", "expanded", "full"]


def test_a_whole_status_comes_back_as_it_was(cluster: Cluster, there: str) -> None:
    write_status(cluster, there, as_json(FULL))
    found = get(cluster, there)["status"]
    assert found == as_json(FULL)
    assert KubernetesStatus.model_validate(found) == FULL


def test_a_status_with_words_of_a_newer_phoenix_is_taken(cluster: Cluster, there: str) -> None:
    write_status(cluster, there, {"state": "Musing", "weight": 1000, "verdict": {"kind": "shrug"}})
    assert get(cluster, there)["status"]["state"] == "Musing"


def test_columns(cluster: Cluster, there: str) -> None:
    write_status(cluster, there, as_json(FULL))
    words = ("get", "phro", "shop", "--namespace", there)
    heads, row = (re.split(r"\s{2,}", line) for line in cluster.kubectl(*words).strip().splitlines())
    assert heads == ["NAME", "STATE", "PHASE", "WEIGHT", "SEEN", "VERDICT", "STABLE", "CANARY", "AGE"]
    assert row[:-1] == ["shop", "Progressing", "expanded", "20", "19", "continue", "aaaa000000", "bbbb000000"]
    assert "5% of the traffic" in cluster.kubectl(*words, "-o", "wide")
    assert "shop" in cluster.kubectl("get", "phoenix", "--namespace", there)


@pytest.mark.parametrize(
    ("state", "holds"),
    [(State.PROMOTED, "Promoted"), (State.ROLLED_BACK, "RolledBack"), (State.STARTING, "Progressing")],
)
def test_kubectl_waits_for_a_condition(cluster: Cluster, there: str, state: State, holds: str) -> None:
    status = FULL.model_copy(update={"state": state})
    said = conditions(status.memory(), NOW, generation=get(cluster, there)["metadata"]["generation"])
    write_status(cluster, there, as_json(status.model_copy(update={"conditions": said})))
    wait = ("wait", "rollout.phoenix-orch.io/shop", "--namespace", there, "--timeout=20s")
    assert "condition met" in cluster.kubectl(*wait, f"--for=condition={holds}")
    other = {"Promoted", "RolledBack"} - {holds}
    assert "condition met" in cluster.kubectl(*wait, f"--for=condition={other.pop()}=False")


def test_a_status_does_not_change_the_generation_and_a_spec_does(cluster: Cluster, there: str) -> None:
    before = get(cluster, there)["metadata"]["generation"]
    write_status(cluster, there, as_json(FULL))
    assert get(cluster, there)["metadata"]["generation"] == before
    cluster.apply(manifest({**LEAST, "policy": {"bake": "1h"}}, namespace=there))
    found = get(cluster, there)
    assert found["metadata"]["generation"] == before + 1
    assert found["status"]["state"] == "Progressing"


def apply_as(cluster: Cluster, manager: str, namespace: str, spec: Any) -> None:
    text = json.dumps(manifest(spec, namespace=namespace))
    cluster.kubectl("apply", "--server-side", f"--field-manager={manager}", "-f", "-", stdin=text)


PHASES = [
    {"name": name, "weight": weight, "duration": "1m"}
    for name, weight in zip("abc", (5, 20, 50), strict=True)
]


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_phase_can_be_put_in_anywhere_by_apply(cluster: Cluster, namespace: str, place: int) -> None:
    """The list is shared by name; its order is still the applier's."""
    rollouts.define(cluster)
    apply_as(cluster, "git", namespace, {**LEAST, "phases": PHASES})
    new = {"name": "new", "weight": (1, 10, 30, 90)[place], "duration": "1m"}
    phases = [*PHASES[:place], new, *PHASES[place:]]
    apply_as(cluster, "git", namespace, {**LEAST, "phases": phases})
    assert get(cluster, namespace)["spec"]["phases"] == phases
    apply_as(cluster, "git", namespace, {**LEAST, "phases": PHASES})
    assert get(cluster, namespace)["spec"]["phases"] == PHASES


def test_two_appliers_share_the_phases_by_name(cluster: Cluster, namespace: str) -> None:
    rollouts.define(cluster)
    apply_as(cluster, "git", namespace, {**LEAST, "phases": PHASES})
    apply_as(
        cluster,
        "operator",
        namespace,
        {**LEAST, "phases": [{"name": "b", "limits": {"errorRate": "1%"}}]},
    )
    found = get(cluster, namespace)["spec"]["phases"]
    assert found[1] == {**PHASES[1], "limits": {"errorRate": "1%"}}
    assert [phase["name"] for phase in found] == ["a", "b", "c"]


def test_the_definition_applied_again_changes_nothing(cluster: Cluster) -> None:
    rollouts.define(cluster)
    before = cluster.get("crd", RESOURCE)["metadata"]["resourceVersion"]
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=crd.text())
    assert cluster.get("crd", RESOURCE)["metadata"]["resourceVersion"] == before


def test_the_page_of_a_field_can_be_asked_for(cluster: Cluster) -> None:
    rollouts.define(cluster)
    told = cluster.kubectl("explain", "rollouts.phoenix-orch.io.spec.phases.weight")
    assert "Share of traffic in per cent" in told


def test_the_example_of_the_page_is_applied(cluster: Cluster, namespace: str) -> None:
    rollouts.define(cluster)
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    example = YAML(typ="safe").load(block)
    example["metadata"]["namespace"] = namespace
    cluster.apply(example)
    found = cluster.get(RESOURCE, example["metadata"]["name"], "--namespace", namespace)
    assert KubernetesRolloutSpec.model_validate(found["spec"]) == KubernetesRolloutSpec.model_validate(
        example["spec"]
    )

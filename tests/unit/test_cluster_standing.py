"""A canary of a component never leads."""

from __future__ import annotations

import pytest

from phoenix_orch.cli import main
from phoenix_orch.orchestrator import kubernetes
from phoenix_orch.orchestrator.cluster.parts import LEASES
from phoenix_orch.orchestrator.cluster.standing import kept_from_leading


@pytest.mark.parametrize("lease", LEASES.values())
def test_who_is_of_the_deployment_or_of_none_stands(lease: str) -> None:
    for app in (lease, "", None):
        assert kept_from_leading(app, lease) == ""
    assert f"only pods of {lease} lead" in kept_from_leading(f"{lease}-canary", lease)


@pytest.mark.parametrize("app", ["master-orchestrator-canary", None])
def test_the_pod_says_its_label(app: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[kubernetes.ClusterSettings] = []

    def run(component: str, settings: kubernetes.ClusterSettings) -> int:
        told.append(settings)
        return 0

    monkeypatch.setattr(kubernetes, "run_in_cluster", run)
    monkeypatch.setenv("PHOENIX_APP", app) if app else monkeypatch.delenv("PHOENIX_APP", raising=False)
    assert main.run(["serve", "orchestrator", "--kubernetes", "--store", "redis://x"]) == 0
    assert [one.app for one in told] == [app]

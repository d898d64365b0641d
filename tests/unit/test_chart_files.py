"""What the chart copies from `k8s/` is what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = {
    "rights.yaml": "k8s/base",
    "api.yaml": "k8s/base",
    "leases.yaml": "k8s/base",
    "rollouts.phoenix-orch.io.yaml": "k8s/crds",
    "config-rights.yaml": "k8s/backup",
    "volume-rights.yaml": "k8s/backup/volumes",
}


@pytest.mark.parametrize("name", COPIED)
def test_it_is_current(name: str) -> None:
    copy = ROOT / "charts/phoenix/files" / name
    assert copy.read_bytes() == (ROOT / COPIED[name] / name).read_bytes(), "run `make docs`"
    assert {path.name for path in copy.parent.iterdir()} == set(COPIED)

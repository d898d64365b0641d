"""Helm with the project's chart, and what it makes of it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from tests.cluster.kubectl import Cluster, Refused

CHART = Path(__file__).parents[2] / "charts/phoenix"
RELEASE = "phoenix"


class Helm:
    """Runs it with folders of its own."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder

    def __call__(
        self, *words: str, values: Mapping[str, Any] | None = None, cluster: Cluster | None = None
    ) -> str:
        """What it prints. Raises Refused with what it says."""
        if values is not None:
            words = (*words, "--values", str(self._written(values)))
        if cluster is not None:
            words = (*words, "--kubeconfig", str(cluster.kubeconfig))
        homes = {f"HELM_{name}_HOME": str(self._folder / name) for name in ("CACHE", "CONFIG", "DATA")}
        done = subprocess.run(
            [str(self._program), *words],
            env={**os.environ, **homes, "KUBECACHEDIR": str(self._folder / "kubectl-cache")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            raise Refused(done.stderr.strip())
        return done.stdout

    def objects(self, namespace: str, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """What an installation would make."""
        text = self("template", RELEASE, str(CHART), "--namespace", namespace, values=values)
        return [one for one in YAML(typ="safe").load_all(text) if one]

    def _written(self, values: Mapping[str, Any]) -> Path:
        path = self._folder / "values.yaml"
        path.write_text(json.dumps(values), "utf-8")
        return path

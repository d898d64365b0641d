"""A cluster as a test uses it: a kubeconfig and kubectl."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.cluster import programs
from tests.cluster.certificates import write_kubeconfig

Manifest = Mapping[str, Any]


class Refused(Exception):
    """kubectl ended with an error; the message is what it printed."""


class Cluster:
    """Any cluster that tests may use as they like."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        """`kubeconfig` is the administrator's; `folder` takes caches and the kubeconfigs of others."""
        self.kubeconfig = kubeconfig
        self.folder = folder

    def kubectl(self, *words: str, stdin: str = "", user: Path | None = None, timeout: float = 60.0) -> str:
        """What kubectl prints, run as the administrator or with another kubeconfig. Raises Refused."""
        done = subprocess.run(
            [str(programs.kubectl()), "--kubeconfig", str(user or self.kubeconfig), *words],
            input=stdin,
            env={**os.environ, "KUBECACHEDIR": str(self.folder / "kubectl-cache")},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise Refused(done.stderr.strip())
        return done.stdout

    def get(self, *words: str, user: Path | None = None) -> Any:
        """`kubectl get`, as data."""
        return json.loads(self.kubectl("get", *words, "-o", "json", user=user))

    def apply(self, *objects: Manifest, user: Path | None = None) -> None:
        """Server-side apply, in the given order."""
        self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(_list(objects)), user=user)

    def service_account(self, namespace: str, name: str) -> Path:
        """A kubeconfig for a service account, made if need be; it may do what its bindings say.

        The token holds for an hour. Works on every cluster.
        """
        self.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
        )
        token = self.kubectl("create", "token", name, "--namespace", namespace, "--duration", "1h").strip()
        view = json.loads(self.kubectl("config", "view", "--minify", "--flatten", "--raw", "-o", "json"))
        cluster = view["clusters"][0]["cluster"]
        path = self.folder / f"{namespace}-{name}.kubeconfig"
        return write_kubeconfig(
            path, cluster["server"], cluster["certificate-authority-data"], {"token": token}
        )


def _list(objects: Iterable[Manifest]) -> Manifest:
    return {"apiVersion": "v1", "kind": "List", "items": list(objects)}

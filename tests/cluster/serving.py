"""Phoenix's three processes beside a cluster, as `phoenix serve COMPONENT --kubernetes` starts them.

Each has the rights that the manifests in `k8s/base` give to its Deployment, and no others.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from tests.cluster.kubectl import Cluster
from tests.cluster.plane import ControlPlane

ACCOUNTS = {
    "orchestrator": "master-orchestrator",
    "health-validator": "health-validator",
    "rollback-controller": "rollback-controller",
}
"""Service accounts by component."""
COMPONENTS = tuple(ACCOUNTS)
_BASE = Path(__file__).parents[2] / "k8s/base"


def rights(namespace: str) -> list[dict[str, Any]]:
    """The manifests of rights and Leases, in this namespace."""
    found: list[dict[str, Any]] = []
    for name in ("leases.yaml", "rights.yaml", "api.yaml"):
        text = (_BASE / name).read_text("utf-8").replace("phoenix-orch:token", f"{namespace}:token")
        found += YAML(typ="safe").load_all(text)
    for one in found:
        if not one["kind"].startswith("Cluster"):
            one["metadata"]["namespace"] = namespace
        for subject in one.get("subjects", ()):
            subject["namespace"] = namespace
    return found


def refused(cluster: ControlPlane, namespace: str) -> list[str]:
    """What the API server has denied to the three."""
    return [
        f"{name}: {event['verb']} {event['requestURI']}"
        for name in ACCOUNTS.values()
        for event in cluster.audit_events(f"system:serviceaccount:{namespace}:{name}")
        if event.get("responseStatus", {}).get("code") == HTTPStatus.FORBIDDEN
    ]


class Component:
    """One process, and what it has logged."""

    def __init__(
        self, name: str, words: list[str], folder: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self._env = dict(env or {})
        self.name = name
        self.log = folder / f"{name}.log"
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "phoenix_orch", "serve", self.name, *self._words],
                stdout=out,
                stderr=out,
                env={**os.environ, "NO_PROXY": "*", **self._env},
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def end(self, number: signal.Signals = signal.SIGTERM) -> int | None:
        """Its exit status; None: it does not run."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(number)
        return process.wait(30)

    def lines(self) -> list[dict[str, Any]]:
        """What it logged; every line is an object."""
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]

    def tail(self) -> str:
        return self.log.read_text("utf-8")[-4000:] if self.log.exists() else ""


class Phoenix:
    """The three of them."""

    def __init__(self, components: dict[str, Component]) -> None:
        self._components = components

    def __getitem__(self, name: str) -> Component:
        return self._components[name]

    def tails(self) -> str:
        return "\n".join(f"--- {one.name}\n{one.tail()}" for one in self._components.values())


@contextlib.contextmanager
def running(
    folder: Path,
    *,
    cluster: Cluster,
    namespace: str,
    store: str,
    prometheus: str = "",
    components: Sequence[str] = COMPONENTS,
    counted: bool = False,
) -> Iterator[Phoenix]:
    """In one namespace; all three, unless told otherwise. They end in order when the block does, and say so
    with status 0.

    `counted`: the orchestrator knows the Prometheus, too, and waits for its counts."""
    cluster.apply(*rights(namespace))
    common = ["--kubernetes", f"--namespace={namespace}", f"--store={store}"]
    more = {"health-validator": [f"--prometheus={prometheus}"]}
    if counted:
        more["orchestrator"] = more["health-validator"]
    phoenix = Phoenix(
        {
            name: Component(
                name,
                [
                    *common,
                    f"--kubeconfig={cluster.service_account(namespace, account)}",
                    *more.get(name, []),
                ],
                folder,
            )
            for name, account in ACCOUNTS.items()
            if name in components
        }
    )
    try:
        for name in components:
            phoenix[name].start()
        yield phoenix
    finally:
        ends = {name: phoenix[name].end() for name in components}
    assert set(ends.values()) <= {0, None}, f"{ends}\n{phoenix.tails()}"


def until(what: str, condition: Callable[[], bool], seconds: float, told: Callable[[], str]) -> None:
    """Wait for it; fail with what `told()` says then."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"not within {seconds} s: {what}\n{told()}"
        time.sleep(0.2)

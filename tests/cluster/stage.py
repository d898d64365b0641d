"""What whole stories have in common: a shop behind a real router with a Rollout, and who watches it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

from tests.cluster import programs, rollouts
from tests.cluster.node import router, shop
from tests.cluster.node.cluster import NodeCluster
from tests.cluster.node.images import SHOP
from tests.cluster.serving import until
from tests.faults.story_users import Account

RATE = 40.0
START_SECONDS = 240.0
"""Three programs start at once, on a machine that may be busy with ten other things."""
NAME = "web"
CANARY = f"{NAME}-canary"
REPLICAS = 2
INGRESS, ROUTE = "ingress", "httpRoute"
SPEC: dict[str, Any] = {
    "workload": {"name": NAME},
    "phases": [
        {"name": "initial", "weight": 20, "duration": "15s", "limits": {"errorRate": "1%"}},
        {"name": "full", "step": 40, "every": "10s", "limits": {"errorRate": "1%"}},
    ],
    "evidence": {"interval": "5s", "window": "15s"},
    "policy": {"bake": "10s", "earlyAdvance": False},
}
NOBODY = "nobody"
"""Whom the router asks for a Service without a ready pod."""


class Stage:
    """One Deployment with a Rollout, served by Traefik."""

    def __init__(self, cluster: NodeCluster, namespace: str, kind: str = INGRESS) -> None:
        """`kind`: of what carries the weight, as a Rollout's spec names it."""
        self.cluster = cluster
        self.namespace = namespace
        self.kind = kind
        self.host = f"web.{namespace}"
        self._log = router.access_log(cluster.folder)

    def set_up(self) -> None:
        rollouts.define(self.cluster)
        if self.kind == INGRESS:
            way = shop.ingress(self.namespace, NAME, host=self.host)
        else:
            way = shop.http_route(self.namespace, NAME, host=self.host, weights={NAME: 1})
            way["metadata"]["labels"] = {"phoenix-orch.io/route": NAME}  # it is the user's own
        self.cluster.apply(
            shop.deployment(self.namespace, NAME, replicas=REPLICAS),
            shop.service(self.namespace, NAME),
            way,
        )
        self.judge_by()
        self.cluster.rolled_out(self.namespace, NAME)
        until("the shop is served", lambda: self.version() == "v1", 240, self.describe)
        self._set_up_at = self._log.stat().st_size

    def judge_by(self, **changes: Any) -> None:
        """Apply the Rollout with these fields of its spec."""
        spec = {**SPEC, "traffic": {self.kind: NAME}, **changes}
        self.cluster.apply(rollouts.manifest(spec, NAME, self.namespace))

    def release(self, tag: str, **of_the_shop: Any) -> None:
        """As `kubectl apply -f k8s/canary/deployment.yaml` does."""
        self.cluster.apply(shop.deployment(self.namespace, CANARY, image=f"{SHOP}:{tag}", **of_the_shop))

    def version(self) -> str:
        return shop.answers(self.cluster.web_port, self.host)

    def get(self, kind: str, name: str = NAME) -> Any:
        return self.cluster.get(kind, name, "-n", self.namespace)

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.get(rollouts.RESOURCE).get("status", {})
        return status

    def state(self) -> str:
        return str(self.status().get("state", ""))

    def carrier(self) -> Any:
        """The metadata of what carries the weight."""
        kind, name = ("ingress", CANARY) if self.kind == INGRESS else ("httproute", NAME)
        return self.get(kind, name)["metadata"]

    def weight(self) -> str:
        weight: str = self.carrier()["labels"]["phoenix-orch.io/weight"]
        return weight

    def images(self, name: str = NAME) -> list[str]:
        spec = self.get("deployment", name)["spec"]["template"]["spec"]
        return [one["image"] for one in spec["containers"]]

    def replicas(self, name: str) -> int:
        return int(self.get("deployment", name)["spec"]["replicas"])

    def failures(self, account: Account) -> Counter[str]:
        """Requests that the router answered with 5xx since the stage was set up, by who was to answer them.

        The router's log has every request: that is waited for, by what its users have counted."""

        def complete() -> bool:
            by = _by_who(self._answers())
            return by.total() >= account.answered and by[NAME] >= account.by_version["v1"]

        until("the router has logged what users saw", complete, 120, lambda: str(self._answers()))
        return _by_who({one: count for one, count in self._answers().items() if one[1] >= 500})

    def _answers(self) -> Counter[tuple[str, int]]:
        """How many the router gave, by who was asked (NAME, CANARY or NOBODY) and the status."""
        with self._log.open() as log:
            log.seek(self._set_up_at)
            lines = log.read().rpartition("\n")[0].splitlines()
        found = Counter[tuple[str, int]]()
        for request in map(json.loads, lines):
            if request["RequestHost"] == self.host:
                found[_asked(request.get("ServiceName", "")), request["DownstreamStatus"]] += 1
        return found

    def phoenix(self, *words: str, status: int = 0) -> str:
        """What `phoenix … --kubernetes` prints, as the administrator."""
        there = ["--kubernetes", f"--kubeconfig={self.cluster.kubeconfig}", f"--namespace={self.namespace}"]
        done = subprocess.run(
            [sys.executable, "-m", "phoenix_orch", *words, *there],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def describe(self) -> str:
        pods = self.cluster.kubectl("get", "pods", "-n", self.namespace, "-o", "wide")
        return f"{json.dumps(self.status(), indent=1)}\n{pods}"


def _by_who(answers: Mapping[tuple[str, int], int]) -> Counter[str]:
    found = Counter[str]()
    for (who, _), count in answers.items():
        found[who] += count
    return found


def _asked(service: str) -> str:
    """Traefik's names of Services contain those of the cluster, or for an Ingress the canary's suffix."""
    if not service:
        return NOBODY
    return CANARY if "-canary" in service else NAME


class Watch:
    """Every state of one object while a `with` block lasted, as the API server tells it: a line each."""

    def __init__(self, stage: Stage, kind: str, name: str, path: str) -> None:
        """`path`: what a line has of the object, as JSONPath."""
        self.lines: list[str] = []
        self._first = threading.Event()
        self._words = [
            *(str(programs.kubectl()), f"--kubeconfig={stage.cluster.kubeconfig}"),
            *(f"--namespace={stage.namespace}", "get", kind, name),
            *("--watch", "-o", f'jsonpath={path}{{"\\n"}}'),
        ]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._words, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read, name="watching", daemon=True)
        self._thread.start()
        assert self._first.wait(60), "kubectl shows nothing"
        return self

    def __exit__(self, *_: object) -> None:
        ended = self._process.poll()
        self._process.terminate()
        self._process.wait(30)
        self._thread.join(30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        assert ended is None, "the watch ended before the story did"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.strip())
            self._first.set()


class StableWatch(Watch):
    """Of stable's Deployment."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage, "deployment", NAME, "{.spec.replicas} 0{.status.availableReplicas}")

    def fewest(self) -> tuple[int, int]:
        """The smallest numbers of pods that were wanted, and that were available."""
        wanted, available = zip(*(map(int, line.split()) for line in self.lines), strict=True)
        return min(wanted), min(available)


class WeightWatch(Watch):
    """Of the weight on the canary's Ingress, which is there already."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage, "ingress", CANARY, r"{.metadata.labels.phoenix-orch\.io/weight}")

    def steps(self) -> list[int]:
        """The weights one after another."""
        weights = [int(line) for line in self.lines]
        return [one for one, before in zip(weights, [None, *weights], strict=False) if one != before]

"""A Git tool that applies the manifests of a service again and again, beside Phoenix.

Its applies are server-side, under a manager of its own. What it writes is its own; what it leaves out is not.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from tests.cluster import deployments, rollouts
from tests.cluster.kubectl import Cluster
from tests.cluster.serving import Phoenix, until
from tests.cluster.stand import NAME, PATIENCE, Stand, orchestrated

from phoenix_orch.runtime.valkey_server import ValkeyServer

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    keeper = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    yield asyncio.run(keeper.ensure()).url
    asyncio.run(keeper.stop())


class Git:
    """What lies in the repository, and the tool that makes it so."""

    def __init__(self, stand: Stand, *, image: str | None) -> None:
        self._stand = stand
        self.stable = deployments.shop(stand.namespace, replicas=2)
        self.stable["metadata"]["labels"] = {"from": "git"}
        del self.stable["metadata"]["annotations"]  # the cause of a change is of whoever makes it
        self.image(image)

    def image(self, image: str | None) -> None:
        """None: whoever releases says which."""
        self.stable = deepcopy(self.stable)
        container = self.stable["spec"]["template"]["spec"]["containers"][0]
        container.pop("image", None)
        if image is not None:
            container["image"] = image

    def apply(self, *, force: bool = False) -> None:
        words = ["apply", "--server-side", "--field-manager=git", *(["--force-conflicts"] if force else [])]
        self._stand.cluster.kubectl(*words, "-f", "-", stdin=json.dumps(self.stable))


@pytest.fixture
def stand(cluster: Cluster, namespace: str) -> Stand:
    return Stand(cluster, namespace)


@pytest.fixture
def begin(stand: Stand, store: str, tmp_path: Path) -> Iterator[Any]:
    """Sets the stand up with a policy, and Phoenix beside it."""
    with orchestrated(stand, tmp_path, store) as phoenix:

        def ready(**policy: Any) -> Phoenix:
            stand.set_up(**policy)
            stand.until_state("Idle", phoenix)
            return phoenix

        yield ready


def proven(stand: Stand, phoenix: Phoenix, image: str = "shop:2") -> None:
    """A release whose steps a person ends."""
    stand.release(image)
    stand.until_state("Progressing", phoenix)
    until("its share is written", lambda: stand.weight() == "20", PATIENCE, phoenix.tails)
    stand.phoenix("rollout", "promote", NAME, "--full")


def test_a_manifest_without_an_image_takes_nothing_back(stand: Stand, begin: Any) -> None:
    phoenix, git = begin(), Git(stand, image=None)
    git.apply()
    stand.release("shop:2")
    stand.until_state("Progressing", phoenix)
    git.apply()
    stand.phoenix("rollout", "promote", NAME, "--full")
    stand.until_state("Promoted", phoenix)
    assert stand.image() == "shop:2"
    git.apply()  # not refused: nothing of it belongs to Phoenix
    assert stand.image() == "shop:2"
    assert stand.get("deployment")["metadata"]["labels"] == {"from": "git"}
    assert stand.state() == "Promoted"


def test_an_old_image_during_the_bake_is_an_undo(stand: Stand, begin: Any) -> None:
    phoenix, git = begin(bake="1h"), Git(stand, image="shop:1")
    proven(stand, phoenix)
    stand.until_state("Baking", phoenix)
    promoted = stand.status()["stable"]
    git.apply(force=True)
    stand.until_state("RolledBack", phoenix)
    status = stand.status()
    assert (status["canary"], stand.image(), stand.replicas(f"{NAME}-canary")) == (promoted, "shop:1", 0)
    carrier = stand.get("ingress", f"{NAME}-canary")["metadata"]
    assert carrier["annotations"]["phoenix-orch.io/abort"] == promoted
    git.apply(force=True)
    assert stand.state() == "RolledBack"


def test_an_external_promotion_waits_for_git_and_ends_when_it_comes(stand: Stand, begin: Any) -> None:
    phoenix, git = begin(promotion="external"), Git(stand, image="shop:1")
    git.apply(force=True)
    proven(stand, phoenix)
    waits = f"waiting for Deployment {NAME} to run revision"
    until("it says so", lambda: waits in stand.status().get("message", ""), PATIENCE, phoenix.tails)
    assert "shop:2" in stand.phoenix("rollout", "status", NAME)
    git.apply(force=True)  # Git has not moved
    assert (stand.state(), stand.image()) == ("Promoting", "shop:1")
    git.image("shop:2")
    git.apply(force=True)
    stand.until_state("Promoted", phoenix)
    found = stand.get("deployment")
    replaced = found["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
    assert (stand.image(), replaced) == ("shop:2", "2")  # no pod was replaced a second time
    assert "annotations" not in found["spec"]["template"]["metadata"]
    until("the canary has gone", lambda: stand.replicas(f"{NAME}-canary") == 0, PATIENCE, phoenix.tails)

    def described() -> str:
        return stand.cluster.kubectl("describe", rollouts.RESOURCE, NAME, "-n", stand.namespace)

    until(
        "kubectl tells of it", lambda: "Promoted" in described().partition("Events:")[2], PATIENCE, described
    )
    assert "PromotionAwaited" in described()


def test_a_third_image_while_git_is_waited_for_aborts_the_release(stand: Stand, begin: Any) -> None:
    phoenix, git = begin(promotion="external"), Git(stand, image="shop:3")
    proven(stand, phoenix)
    until("it waits", lambda: "waiting for" in stand.status().get("message", ""), PATIENCE, phoenix.tails)
    git.apply(force=True)
    stand.until_state("RolledBack", phoenix)
    assert (stand.image(), stand.weight(), stand.replicas(f"{NAME}-canary")) == ("shop:3", "0", 0)
    assert stand.status()["cause"]["trigger"] == "person"

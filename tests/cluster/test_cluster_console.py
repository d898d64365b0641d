"""The console of a cluster, with a login that every replica knows."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from tests.cluster.plane import ControlPlane
from tests.cluster.replicas import API, NAMESPACE, Replica, a_store, replicas
from tests.cluster.stand import NAME

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PAGES = ("", f"/rollouts/{NAME}", "/services", "/tasks", "/audit", f"/rollouts/{NAME}/history", "/settings")


def browser(replica: Replica) -> httpx.Client:
    headers = {"sec-fetch-site": "same-origin"}
    return httpx.Client(base_url=replica.url, headers=headers, timeout=30, trust_env=False)


def test_who_logs_in_at_one_replica_is_known_at_the_other(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    with a_store(tmp_path / "valkey") as store, replicas(control_plane, tmp_path, store) as world:
        one, other = world.replicas
        operator = world.token("operator", "--audience", "phoenix-orch.io")
        with browser(one) as first, browser(other) as second:
            assert first.get("/console").status_code == 303
            assert "Token of the cluster" in first.get("/login").text
            assert first.post("/login", data={"token": "made-up"}).status_code == 401
            assert (
                first.post(
                    "/login", data={"token": operator}, headers={"sec-fetch-site": "cross-site"}
                ).status_code
                == 403
            )
            came = first.post("/login", data={"token": operator, "next": "/console"})
            assert (came.status_code, came.headers["location"]) == (303, "/console")
            (cookie,) = first.cookies.jar
            assert operator not in str(came.headers)

            # every page, at the other replica; cookies know no ports, but here their names do
            second.cookies.set(f"phoenix-{second.base_url.port}", str(cookie.value))
            statuses = {path: second.get(f"/console{path}").status_code for path in PAGES}
            assert set(statuses.values()) == {200}, statuses
            assert "session.begin" in second.get("/console/audit").text

            # a change takes the session's own word, and its rights as they are now
            path = f"/api/v1/rollouts/{NAME}/commands"
            pause = {"kind": "abort"}
            assert second.post(path, json=pause).status_code == 403
            page = second.get(f"/console/rollouts/{NAME}").text
            csrf = re.search(r'name="csrf" value="([^"]+)"', page)
            assert csrf is not None
            word = {"x-csrf-token": csrf[1]}
            assert second.post(path, json=pause, headers=word).status_code == 409
            control_plane.kubectl("delete", f"rolebinding.{API}", "operator", "--namespace", NAMESPACE)
            world.until(
                "they may not any more",
                lambda: second.post(path, json=pause, headers=word).status_code == 403,
            )
            assert second.get(f"/api/v1/rollouts/{NAME}").status_code == 403

            # gone at one, gone at the other
            assert first.post("/logout").status_code == 303
            assert second.get("/console").status_code == 303
            assert second.get(f"/api/v1/rollouts/{NAME}").status_code == 401

"""Options of commands that work in a cluster."""

from __future__ import annotations

import json

import pytest
import structlog

from phoenix_orch.cli import main
from phoenix_orch.cli.cluster import images
from phoenix_orch.cli.cluster_options import access, endpoints, listener
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.runtime.logs import configure_logs


def test_endpoints_by_name() -> None:
    words = ["http://a:9090", "second=https://b", "second=http://c/x=y", "default=http://d"]
    assert endpoints(words) == {
        "default": ("http://a:9090", "http://d"),
        "second": ("https://b", "http://c/x=y"),
    }
    with pytest.raises(Invalid, match="does not begin with"):
        endpoints(["prometheus:9090"])


@pytest.mark.parametrize(
    ("text", "found"),
    [("8081", ("0.0.0.0", 8081)), ("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:80", ("::1", 80)), (None, None)],
)
def test_where_probes_are_answered(text: str | None, found: tuple[str, int] | None) -> None:
    assert listener("--probes", text) == found


@pytest.mark.parametrize("text", ["", "x", "localhost:", "1:70000"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(Invalid, match="is no port"):
        listener("--probes", text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serve", "health-validator", "--probes", "8081"], "--probes is for a cluster"),
        (["rollout", "abort", "web", "-n", "shops"], "--namespace is for a cluster"),
        (["serve", "orchestrator", "--kubernetes"], "no Redis or Valkey"),
        (["serve", "orchestrator", "--kubernetes", "--speed", "2"], "--speed is not for a cluster"),
        (["rollout", "history", "web", "--store", "redis://x"], "--store is for a cluster"),
        (["rollout", "start", "web", "--image", "web:2"], "--image is for a cluster"),
        (["rollout", "start", "web", "--kubernetes", "--version", "2"], "--version is not for a cluster"),
        (["rollout", "start", "web", "--kubernetes"], "--image is not given"),
        (["rollout", "start", "web", "--kubernetes", "--image", "web="], "is not CONTAINER=IMAGE"),
    ],
)
def test_what_does_not_go_together_is_refused(
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PHOENIX_STORE", "PHOENIX_PROMETHEUS"):
        monkeypatch.delenv(name, raising=False)
    assert main.run(words) == 2
    assert said in capsys.readouterr().err


def test_images_by_container() -> None:
    assert images(["web=shop:2", "side=registry:5000/side@sha256:0a"]) == {
        "web": "shop:2",
        "side": "registry:5000/side@sha256:0a",
    }
    assert images(["registry:5000/shop:2"]) == {"": "registry:5000/shop:2"}
    for wrong in (["=shop:2"], ["web=a", "web=b"], [""]):
        with pytest.raises(Invalid):
            images(wrong)


def test_the_store_is_the_one_that_is_named_or_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = {"namespace": "shops", "kubeconfig": None, "context": None}
    monkeypatch.setenv("PHOENIX_STORE", "redis://b")
    assert access(kubernetes=True, store="redis://a", **where) == Access("shops", store="redis://a")
    assert access(kubernetes=True, **where) == Access("shops", store="redis://b")
    assert access(kubernetes=False, namespace=None, kubeconfig=None, context=None) is None


def test_a_line_of_the_log_is_an_object_that_begins_with_what_happened(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs(json=True)
    try:
        structlog.get_logger("x").info("verdict", rollout="web", reason="errors 0.1 % ≤ 1 %\nnext")
        structlog.get_logger("x").error("it broke", exc_info=ValueError("password=hunter2"))
    finally:
        configure_logs()
    verdict, broken = capsys.readouterr().err.splitlines()
    assert list(json.loads(verdict)) == ["time", "level", "event", "rollout", "reason"]
    assert "≤" in verdict
    found = json.loads(broken)
    assert found["level"] == "error"
    assert "ValueError" in found["exception"]
    assert "hunter2" not in broken

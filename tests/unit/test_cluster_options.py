"""Options of commands that work in a cluster."""

from __future__ import annotations

import json

import pytest
import structlog

from phoenix_orch.cli import main
from phoenix_orch.cli.cluster_options import endpoints, probes
from phoenix_orch.kernel.errors import Invalid
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
    assert probes(text) == found


@pytest.mark.parametrize("text", ["", "x", "localhost:", "1:70000"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(Invalid, match="is no port"):
        probes(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serve", "health-validator", "--probes", "8081"], "--probes is for a cluster"),
        (["rollout", "abort", "web", "-n", "shops"], "--namespace is for a cluster"),
        (["serve", "orchestrator", "--kubernetes"], "no Redis or Valkey"),
        (["serve", "orchestrator", "--kubernetes", "--speed", "2"], "--speed is not for a cluster"),
        (["rollout", "status", "web", "--kubernetes", "--wait"], "--wait is not for a cluster"),
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

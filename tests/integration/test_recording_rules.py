"""k8s/monitoring: the rules are Prometheus's own, and give what the guide names."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from tests import debian

MONITORING = Path(__file__).parents[2] / "k8s/monitoring"
RULES = MONITORING / "recording-rules.yaml"
CASES = Path(__file__).with_name("recording_rules.yaml")
GUIDE = {"error_rate", "task_success_rate", "disk_io_operations", "network_traffic"}


def groups(path: Path) -> list[dict[str, Any]]:
    found = YAML(typ="safe").load(path.read_text("utf-8"))
    return list(found.get("spec", found)["groups"])


def promtool(*words: str) -> str:
    program = debian.program("promtool", "prometheus")
    done = subprocess.run([str(program), *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_them() -> None:
    assert "SUCCESS" in promtool("check", "rules", str(RULES))


def test_they_give_what_the_guide_names() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(CASES))


def test_every_name_of_the_guide_that_is_no_metric_has_a_rule() -> None:
    assert {rule["record"] for group in groups(RULES) for rule in group["rules"]} >= GUIDE


def test_those_of_the_operator_are_the_same() -> None:
    assert groups(MONITORING / "prometheus-rule.yaml") == groups(RULES), "run `make docs`"

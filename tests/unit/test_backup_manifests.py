"""What `k8s/backup` allows is what is backed up, and no verb besides; `backup/configs.yaml` holds nothing."""

from __future__ import annotations

from pathlib import Path

from ruamel.yaml import YAML

from phoenix_orch.orchestrator.backed_up_files import config_files
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.sources.config_items import Tally
from phoenix_orch.recovery.sources.config_objects import KINDS

ROOT = Path(__file__).parents[2]


def test_the_role_lists_the_kinds_and_nothing_else():
    role, binding = YAML(typ="safe", pure=True).load_all((ROOT / "k8s/backup/config-rights.yaml").read_text())
    allowed = {
        (group, plural, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for plural in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == {(resource.group, resource.plural, "list") for resource in KINDS}
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_a_drill_may_ask_about_the_same_kinds_and_nothing_else():
    role, _ = YAML(typ="safe", pure=True).load_all((ROOT / "k8s/backup/config-drill-rights.yaml").read_text())
    allowed = {
        (group, plural, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for plural in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == {
        (resource.group, resource.plural, verb) for resource in KINDS for verb in ("create", "patch")
    }


def test_the_template_of_the_guide_holds_no_object():
    text = (ROOT / "backup/configs.yaml").read_text()
    assert YAML(typ="safe", pure=True).load(text) is None
    assert "phoenix restore plan config" in text


def test_files_of_a_machine_are_its_configuration_and_no_key(tmp_path):
    layout = Layout(tmp_path)
    for path in (layout.config, layout.serving, layout.tokens, layout.mask_key, layout.first_token):
        path.write_text("x")
    (tmp_path / "my.yaml").write_text("services: []")
    tally = Tally()
    with config_files(layout, file=tmp_path / "my.yaml").read(tally) as items:
        names = [item.path for item in items]
    expected = ("applied.json", "phoenix.yaml", "serving.json", "tokens.json")
    assert names == [f"default/File/{name}.sops" for name in expected]
    assert tally.not_served == ["approvals.json", "freezes.json"]

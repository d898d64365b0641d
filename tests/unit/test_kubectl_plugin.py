"""`kubectl phoenix`: which commands it has, and what it offers when Tab is pressed."""

from __future__ import annotations

import sys

import pytest

from phoenix_orch.cli import cluster, kubectl_plugin, root
from phoenix_orch.orchestrator.cluster.access import Access


def leaves(command, path=()):
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, one in below.items():
        yield from leaves(one, (*path, name))


def everywhere(tree):
    for name in tree.list_commands(None):
        yield from leaves(tree.get_command(None, name), (name,))


def test_it_has_what_works_in_a_cluster_and_nothing_that_would_work_here_instead():
    kept = {" ".join(path) for path, _ in everywhere(kubectl_plugin.tree())}
    able = {
        " ".join(path)
        for path, command in everywhere(root.command_tree())
        if any(option.name == "kubernetes" for option in command.params)
    }
    assert {"rollout status", "rollout abort", "serve"} <= able
    assert kept == able | set(kubectl_plugin.WITHOUT_A_CLUSTER)


def test_what_stays_on_this_machine_is_no_command_of_it(capsys):
    assert kubectl_plugin.run(["up"]) == 2
    assert "`kubectl phoenix --help`" in capsys.readouterr().err


def test_the_cluster_is_meant_without_being_named(monkeypatch):
    asked = []
    monkeypatch.setattr(cluster, "say", lambda there, name, *_, **__: asked.append((there, name)))
    assert kubectl_plugin.run(["rollout", "pause", "web", "-n", "shops", "--context", "far"]) == 0
    assert asked == [(Access("shops", None, "far"), "web")]


def test_its_help_names_it_and_hides_what_is_understood(capsys):
    assert kubectl_plugin.run(["rollout", "abort", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Usage: kubectl phoenix rollout abort" in shown
    assert "--namespace" in shown
    assert "  --kubernetes" not in shown
    assert "--data-dir" not in shown


def test_the_command_line_itself_is_as_before_afterwards(capsys):
    kubectl_plugin.run(["rollout", "--help"])
    capsys.readouterr()
    for _, command in everywhere(root.command_tree()):
        assert not any(option.name == "kubernetes" and option.default for option in command.params)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ([""], {"rollout", "serve", "crd", "version"}),
        (["rollout", "pr"], {"promote"}),
        (["rollout", "abort", "--re"], {"--reason"}),
        (["rollout", "status", "web", "-o", "y"], {"yaml"}),
    ],
)
def test_completion_speaks_as_kubectl_wants_it(monkeypatch, capsys, words, offered):
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-phoenix", *words])
    for name in (
        kubectl_plugin.program.COMPLETE_VARIABLE,
        "_TYPER_COMPLETE_ARGS",
        "_TYPER_COMPLETE_FISH_ACTION",
    ):
        monkeypatch.setenv(name, "")  # so that what is set is taken back
    kubectl_plugin.complete()
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == ":4"
    assert offered <= {line.partition("\t")[0] for line in lines}

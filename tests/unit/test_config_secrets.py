"""Errors of a configuration file say where and what, and show nothing that may be secret."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.kernel.config import ConfigError, Source, validate
from phoenix_orch.kernel.yaml_source import YamlFault, parse
from phoenix_orch.orchestrator.config import PhoenixFile, load

CANARY = "s3cr3tCanary"
NUMBER = "918273645"
SERVICE = "services:\n  web:\n    command: app {port}\n"
ROUTE = "routes: {web: {service: web}}\n"
CHECK = f"{SERVICE}{ROUTE}rollouts:\n  web:\n    checks:\n"

CASES = {
    "beside the fault": (f"{SERVICE}    env: {{DB: {CANARY}, PORT: 8080}}\n", 4, 35, "services.web.env.PORT"),
    "a number": (f"{SERVICE}    env: {{PIN: {NUMBER}}}\n", 4, 16, "services.web.env.PIN"),
    "a mapping by braces": (f"{SERVICE}    env: {{A: {{{CANARY}}}}}\n", 4, 14, "services.web.env.A"),
    "a list of assignments": (f"{SERVICE}    env: [A={CANARY}]\n", 4, 10, "services.web.env"),
    "one assignment": (f"{SERVICE}    env: A={CANARY}\n", 4, 10, "services.web.env"),
    "as Kubernetes has it": (
        f"{SERVICE}    env:\n      - {{name: A, value: {CANARY}}}\n",
        4,
        5,
        "services.web.env",
    ),
    "below a misspelt key": (f"{SERVICE}    envs: {{A: {CANARY}}}\n", 4, 5, "services.web.envs"),
    "a list below a misspelt key": (f"{SERVICE}    environ: [A={CANARY}]\n", 4, 5, "services.web.environ"),
    "below a section that is none": (f"servics: {{web: {{env: {{A: {CANARY}}}}}}}\n", 1, 1, None),
    "the next line of a text": (
        f'{SERVICE}    env: {{A: "x\n      {CANARY}", B: 3}}\n',
        5,
        25,
        "services.web.env.B",
    ),
    "a comment": (f"{SERVICE}    replicas: many # {CANARY}\n", 4, 15, "services.web.replicas"),
    "a placeholder": (f"{SERVICE}    env: {{A: 'x{{{CANARY}}}'}}\n", 4, 14, "services.web.env.A"),
    "beside a placeholder": (f"{SERVICE}    env: {{A: '{CANARY}{{prot}}'}}\n", 4, 27, "services.web.env.A"),
    "a name with its value": (f"{SERVICE}    env: {{'A={CANARY}': x}}\n", 4, 11, "services.web.env.A"),
    "an option of a command": (f"services: {{web: {{command: app --token {CANARY}}}}}\n", 1, 27, None),
    "an option of a command's list": (
        f"services: {{web: {{command: [app, --password, {CANARY}]}}}}\n",
        1,
        27,
        "services.web.command",
    ),
    "an address": (
        f'{CHECK}      - {{name: a, http: {{url: "http://u:{CANARY}@h/{{cannary}}"}}}}\n',
        8,
        None,
        "rollouts.web.checks[0].http.url",
    ),
    "what is no address": (
        f'{CHECK}      - {{name: a, http: {{url: "u:{CANARY}@h/"}}}}\n',
        8,
        31,
        "rollouts.web.checks[0].http.url",
    ),
    "beside an address": (
        f'{CHECK}      - {{name: a, http: {{url: "http://h/?t={CANARY}", status: 5}}}}\n',
        8,
        None,
        "rollouts.web.checks[0].http.status",
    ),
    "a quote that is not closed": (f"{SERVICE}    env:\n      A: '{CANARY}\n", 6, 1, ""),
    "a value that looks like an alias": (f"{SERVICE}    env: {{A: *{CANARY}}}\n", 4, 14, ""),
    "a value that looks like a tag": (f"{SERVICE}    env: {{A: !{CANARY} x}}\n", 4, 14, ""),
    "a value that looks like a handle": (f"{SERVICE}    env: {{A: !{CANARY}!x}}\n", 4, 29, ""),
    "a value that looks like an anchor": (
        f"{SERVICE}    env: {{A: &{CANARY} x}}\n    cwd: *nobody\n",
        5,
        10,
        "",
    ),
    "twice": (f"{SERVICE}    env:\n      A: x\n      A: {CANARY}\n", 6, 7, ""),
    "a tab": (f"{SERVICE}    env:\n\tA: {CANARY}\n", 5, 1, ""),
    "indentation": (f"{SERVICE}    env:\n      A: x\n     B: {CANARY}\n", 6, 6, ""),
    "a control character": (f"{SERVICE}    env: {{A: {CANARY}\x07}}\n", 4, 26, ""),
    "a colon too many": (f"{SERVICE}    env:\n      A: {CANARY}: x\n", 5, 22, ""),
    "a second document": (f"{SERVICE}{ROUTE}--- {{env: {{A: {CANARY}}}}}\n", 5, 1, ""),
    "a line that is no key": (
        f"{SERVICE}    env:\n      A: |\n        x\n    {CANARY}\n    b: 1\n",
        8,
        5,
        "",
    ),
    "the whole file": (f"{CANARY}\n", 1, 1, ""),
    "a file that is a list": (f"- {CANARY}\n", 1, 1, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_the_place_is_told_and_the_secret_is_not(tmp_path, case):
    text, line, column, field = CASES[case]
    path = tmp_path / "phoenix.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    shown = caught.value.render(99, 99)
    for secret in (CANARY, NUMBER):
        assert secret not in shown
        assert secret not in f"{caught.value!s}{caught.value!r}{caught.value.remedy}"
        assert all(secret not in repr(problem) for problem in caught.value.problems)
    first = caught.value.problems[0]
    assert first.line == line
    assert column in (None, first.column)
    assert field in (None, first.field)


def test_a_quote_keeps_what_is_no_secret(tmp_path):
    path = tmp_path / "phoenix.yaml"
    path.write_text(f"{SERVICE}    env: {{DB: {CANARY}, PORT: 8080}} # why\n{ROUTE}")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.render().splitlines()[1:] == [
        f"{path}:4:35: services.web.env.PORT: this has to be text",
        "    4 |     env: {DB: <masked>, PORT: <masked>}",
        "      |                               ^^^^^^^^",
        "        found: <masked>",
        "      allowed: text; write it in quotes",
    ]


def test_a_quote_of_what_is_no_yaml_keeps_the_key(tmp_path):
    path = tmp_path / "phoenix.yaml"
    path.write_text(f"{SERVICE}    env:\n      - A: {CANARY}: x\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    lines = caught.value.render().splitlines()
    assert lines[2:] == ["    5 |       - A: <masked>", "      |            ^"]


def test_a_quote_shows_the_rest_of_a_file_as_it_is(tmp_path):
    path = tmp_path / "phoenix.yaml"
    source = "rollouts: {web: {phases: [{name: a, weight: 500, duration: 1m}], policy: {}}}"
    path.write_text(f"{SERVICE}{ROUTE}{source}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.render().splitlines()[2:4] == [f"    5 | {source}", f"      | {' ' * 44}^^^"]


KEYS = st.sampled_from(
    ["services", "web", "env", "command", "A", "envs", "rollouts", "checks", "http", "url"]
)
TREES = st.recursive(
    st.sampled_from([CANARY, f"x{CANARY}", "ok", 3, None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(TREES, st.sampled_from([None, 1, 3]), st.sampled_from(["services", "servces"]), st.booleans())
def test_whatever_stands_below_env_or_an_unknown_key_is_not_quoted(tree, indent, section, broken):
    text = json.dumps({section: {"web": {"command": 5, "env": tree, "nope": tree}}, "x": tree}, indent=indent)
    if broken:
        text = text.replace("}", "", 1) if "}" in text[:-1] else text[:-1]
    lines = tuple(text.splitlines())
    said = ""
    try:
        root = parse(text)
        assert root is not None
        validate(Source("f", lines, root), PhoenixFile)
    except ConfigError as error:
        said = error.render(99, 99)
    except YamlFault as fault:
        said = f"{fault.message}{fault.allowed}"
    assert said
    assert CANARY not in said


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("replcas: 2", "    replcas: 2"),
        ("    {memorylimit: true}", None),
        ("evn: 4711", "    evn: <masked>"),
        ("pin: 4711", "    pin: <masked>"),
        ("replcas_token: 4711", "    replcas_token: <masked>"),
        ("something: 4711", "    something: <masked>"),
        ("Version: geheim", "    Version: <masked>"),
        ("evn: {replcas: 4711}", None),
        ("env: {replcas: 4711}", "    env: {replcas: <masked>}"),
    ],
)
def test_a_number_at_a_misspelt_key_is_no_secret_and_all_else_that_is_unknown_is_one(tmp_path, line, shown):
    path = tmp_path / "phoenix.yaml"
    path.write_text(f"{SERVICE}    {line}\n{ROUTE}")
    with pytest.raises(ConfigError) as caught:
        load(path)
    said = caught.value.render(99, 99)
    assert "4711" not in said
    assert "geheim" not in said
    if shown is not None:
        assert f"    4 | {shown}" in said

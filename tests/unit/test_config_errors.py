"""Errors of configuration files: place, field, what was found, what is allowed, a guess."""

from __future__ import annotations

import io

import pytest
from pydantic import BaseModel

from phoenix_orch.kernel.config import ConfigError, field_path, validate
from phoenix_orch.kernel.config_file import read
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.guess import did_you_mean
from phoenix_orch.orchestrator.config import PhoenixFile, load

VALID = """\
services:
  web:
    command: python app.py --port {port}
routes:
  web: {service: web}
"""


@pytest.fixture
def errors(tmp_path):
    """Loads a text and gives the problems found in it."""

    def problems(text):
        path = tmp_path / "phoenix.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load(path)
        return caught.value

    return problems


ROUTE = "routes: {web: {service: web}}\n"


@pytest.mark.parametrize(
    ("text", "line", "column", "field", "words", "suggestion"),
    [
        ("    replcas: 3\n", 4, 5, "services.web.replcas", "unknown key", "replicas"),
        ("    memory_limit: 1Gi\n", 4, 5, "services.web.memory_limit", "unknown key", "memoryLimit"),
        ("    replicas: 0\n", 4, 15, "services.web.replicas", "1 to 100", ""),
        ("    replicas: true\n", 4, 15, "services.web.replicas", "whole number", ""),
        ('    replicas: "3"\n', 4, 15, "services.web.replicas", "whole number", ""),
        ("    env: {PORT: 8080}\n", 4, 17, "services.web.env.PORT", "write it in quotes", ""),
        ("    drain: 5\n", 4, 12, "services.web.drain", "100ms, 30s, 10m, 2h", ""),
        ("    drain: 5 minutes\n", 4, 12, "services.web.drain", "not a duration", ""),
        ("    health: {path: healthz}\n", 4, 20, "services.web.health.path", "begins with '/'", ""),
        ("    memoryLimit: 1 GB\n", 4, 18, "services.web.memoryLimit", "512Mi", ""),
        ("    version: ''\n", 4, 14, "services.web.version", "at least 1 character", ""),
        ("    cwd: no/such\n", 4, 10, "services.web.cwd", "there is no such directory", ""),
        ("    health:\n", 4, 5, "services.web.health", "mapping", ""),
        ("    health: [1]\n", 4, 13, "services.web.health", "path, interval, timeout, failures", ""),
        ("router: {listen: nonsense}\n", 4, 18, "router.listen", "HOST:PORT", ""),
        ("aplVersion: x\n", 4, 1, "aplVersion", "unknown key", "apiVersion"),
        ("apiVersion: v2\n", 4, 13, "apiVersion", "phoenix-orch.io/v1alpha1", ""),
        (
            "routes: {a: {service: web}, b: {service: wbe, host: b}}\n",
            4,
            42,
            "routes.b.service",
            "no service 'wbe'",
            "web",
        ),
        ("routes: {web: {}}\n", 4, 15, "routes.web.service", "'service' is missing", ""),
        ("routes: {Web: {service: web}}\n", 4, 10, "routes.Web", "a-z", ""),
        ("rollouts: {api: {}}\n", 4, 17, "rollouts.api", "no service 'api'", ""),
        ("routes: {}\nrollouts: {web: {}}\n", 5, 17, "rollouts.web", "no route leads to", ""),
        ("routes: {}\n", 2, 3, "services.web", "no route leads to", ""),
    ],
)
def test_every_error_says_where_what_and_what_instead(errors, text, line, column, field, words, suggestion):
    error = errors("services:\n  web:\n    command: app {port}\n" + text + ROUTE * ("routes:" not in text))
    (problem,) = error.problems
    assert (problem.line, problem.column, problem.field) == (line, column, field)
    assert words in f"{problem.message}; {problem.allowed}"
    assert problem.suggestion == suggestion


@pytest.mark.parametrize(
    ("entry", "field", "words"),
    [
        ("phases: []", "rollouts.web.phases", "at least 1"),
        ("phases: [{name: a, weight: 5}]", "rollouts.web.phases[0]", "'weight' and 'duration'"),
        ("phases: [{name: a, weight: 500, duration: 1m}]", "rollouts.web.phases[0].weight", "1 to 100"),
        (
            "phases: [{name: a, step: 5, every: 1m, limits: {errorRate: 0.1}}]",
            "rollouts.web.phases[0].limits.errorRate",
            "percentage",
        ),
        ("policy: {noData: holds}", "rollouts.web.policy.noData", "hold, rollback"),
        ("verify: {logs: {bad: ['(']}}", "rollouts.web.verify.logs.bad[0]", "not a regular expression"),
        ("checks: [{name: a}]", "rollouts.web.checks[0]", "exactly one of 'http' and 'exec'"),
        ("route: wbe", "rollouts.web.route", "no route 'wbe'"),
    ],
)
def test_errors_inside_a_rollout(errors, entry, field, words):
    (problem,) = errors(f"{VALID}rollouts:\n  web: {{{entry}}}\n").problems
    assert problem.field == field
    assert words in f"{problem.message}; {problem.allowed}"
    assert problem.line == 7


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        (r"(?=x)y", "a pattern without look-around"),
        (r"(?<!x)y", "a pattern without look-around"),
        (r"(x)\1", "a pattern without back-references"),
        (r"(?P<a>x)(?P=a)", "a pattern without back-references"),
        (r"x++", "a pattern without possessive quantifiers"),
        (r"(?>x)", "a pattern without atomic groups"),
        (r"x\Z", r"\z or $ for the end"),
        (r"x{5000}", "at most 1000 repetitions"),
    ],
)
def test_a_pattern_without_a_bound_in_time_is_refused_where_it_stands(errors, pattern, allowed):
    (problem,) = errors(
        f"{VALID}rollouts:\n  web: {{verify: {{logs: {{bad: [ok, '{pattern}']}}}}}}\n"
    ).problems
    assert problem.field == "rollouts.web.verify.logs.bad[1]"
    assert (problem.line, problem.column) == (7, 35)
    assert "is not a regular expression of RE2" in problem.message
    assert allowed in problem.allowed


def test_names_have_to_lead_somewhere_exactly_one_way(errors):
    two = VALID.replace(
        "routes:\n", "  api: {command: 'b {port}'}\nroutes:\n  api: {service: api, host: api}\n"
    )
    found = errors(two.replace(", host: api", "")).problems
    assert [problem.message for problem in found] == [
        "takes the same requests as route 'api': any host, path /"
    ]
    found = errors(two + "  b: {service: web, pathPrefix: /b}\n").problems
    assert [(problem.field, problem.message) for problem in found] == [
        ("services.web", "2 routes lead to service 'web', and a rollout steers one")
    ]
    found = errors(two + "rollouts:\n  web: {}\n  again: {service: web}\n").problems
    assert [problem.message for problem in found] == ["service 'web' has a rollout already: 'web'"]
    found = errors(two + "rollouts:\n  web: {route: api}\n").problems
    assert [problem.message for problem in found] == ["route 'api' leads to service 'api', not to 'web'"]


def test_all_errors_of_a_file_are_listed_in_order(errors):
    error = errors("services:\n  web: {command: x, replicas: no}\nrouter: {listn: 1}\nroutes: 5\n")
    assert [(problem.line, problem.field) for problem in error.problems] == [
        (2, "services.web.command"),
        (2, "services.web.replicas"),
        (3, "router.listn"),
        (4, "routes"),
    ]
    assert all(
        problem.headline("f") in error.render(99, 99).replace(error.name, "f") for problem in error.problems
    )


def test_a_screen_holds_the_report_however_many_errors_there_are(errors):
    many = "".join(f"  s{n}: {{command: x}}\n" for n in range(200))
    error = errors(f"services:\n{many}")
    assert len(error.problems) == 200
    lines = str(error).splitlines()
    assert len(lines) <= 30
    assert lines[-1].startswith("... and 188 more")


def test_the_report_shows_the_line_with_a_caret(errors):
    assert errors("services:\n  web:\n    command: app {port}\n    replcas: 3\n").render().splitlines()[
        1:
    ] == [
        f"{errors('servces: {}').name}:4:5: services.web.replcas: unknown key; did you mean 'replicas'?",
        "    4 |     replcas: 3",
        "      |     ^^^^^^^",
        "        found: replcas",
        "      allowed: version, env, command, cwd, health, metrics, memoryLimit, replicas, drain",
    ]


def test_long_lines_and_control_characters_stay_readable(errors):
    error = errors("services: {web: {command: 'app {port}', env: {" + "A: x, " * 60 + "B: 1}}}\n")
    assert all(len(line) < 160 for line in str(error).splitlines())
    error = errors('services: {"a\\u001b[31m": 5}\n')
    assert "\x1b" not in str(error)


def test_braces_that_yaml_takes_for_a_mapping_are_explained(errors):
    (problem,) = errors("services: {web: {command: [app, {port}]}}\n").problems
    assert problem.allowed.endswith('write it in quotes: "{port}"')


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"# nothing\n", "the file is empty"),
        (b"- a\n", "no mapping"),
        (b"just text\n", "no mapping"),
        (b"a: \xff\n", "not UTF-8"),
        (b"services: [\n", "not YAML"),
        (b"services: {}\nservices: {}\n", "second time"),
    ],
)
def test_files_that_are_no_configuration_at_all(tmp_path, content, words):
    path = tmp_path / "phoenix.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert words in str(caught.value)
    assert caught.value.remedy


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(Invalid, match="there is no file"):
        read(tmp_path / "nope.yaml")
    with pytest.raises(Invalid, match="is a directory"):
        read(tmp_path)


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path):
    path = tmp_path / "phoenix.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + VALID.replace("\n", "\r\n").encode())
    assert list(load(path).services) == ["web"]


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"services: {}\n")))
    assert load("-").services == {}


def test_guesses():
    known = ("replicas", "memoryLimit", "latencyP95")
    assert did_you_mean("replcas", known) == "replicas"
    assert did_you_mean("memory_limit", known) == "memoryLimit"
    assert did_you_mean("latency-p95", known) == "latencyP95"
    assert did_you_mean("Replicas", known) == "replicas"
    assert did_you_mean("colour", known) == ""
    assert did_you_mean("replicas", known) == ""
    assert did_you_mean("", known) == ""


def test_field_paths():
    assert field_path(("rollouts", "web", "phases", 0, "weight")) == "rollouts.web.phases[0].weight"
    assert field_path(("services", "Bad", "[key]")) == "services.Bad"


def test_any_model_can_be_loaded(tmp_path):
    class Small(BaseModel):
        size: int
        tags: list[str] = []

    path = tmp_path / "small.yaml"
    path.write_text("size: big\ntags: [1, two]\nextra: 1\n")
    with pytest.raises(ConfigError) as caught:
        validate(read(path), Small)
    assert [(p.line, p.column, p.field) for p in caught.value.problems] == [(1, 7, "size"), (2, 8, "tags[0]")]


def test_the_model_refuses_the_same_without_a_file():
    """The API takes configurations as JSON, and a client that does not check must not get further."""
    with pytest.raises(ValueError, match="no service 'x'"):
        PhoenixFile.model_validate({"services": {}, "routes": {"a": {"service": "x"}}})

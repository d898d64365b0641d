"""Bad files, flags, names and states: a one-screen error with a remedy, exit 2, nothing changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.fake_phoenix import FakeOperations, serving, view

from phoenix_orch.cli import main
from phoenix_orch.rollout.status import State

SCREEN = 30
"""Lines of one screen."""

GOOD = """\
services:
  web:
    command: app --port {port}
routes:
  web: {service: web}
"""


def service(line):
    return GOOD.replace("{port}\n", f"{{port}}\n    {line}\n")


def rollout(line):
    return f"{GOOD}rollouts:\n  web:\n    {line}\n"


FILES = {
    "empty": ("", "the file is empty"),
    "only comments": ("# hello\n", "the file is empty"),
    "a list": ("- services\n", "no mapping of keys to values"),
    "not yaml": ("services: [web\n", "not YAML"),
    "tabs": ("services:\n\tweb: {}\n", "a tab"),
    "indentation": ("services:\n  web:\n    env: {}\n   cwd: .\n", "indentation"),
    "repeated key": ("services: {}\nservices: {}\n", "a second time"),
    "two documents": (f"{GOOD}---\n{GOOD}", "a second document"),
    "alias bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{n}: &{n} [{','.join(['*' + p] * 10)}]\n" for p, n in zip("abcdefg", "bcdefgh", strict=True)
        ),
        "with what aliases stand for",
    ),
    "object tag": ("services: !!python/object/apply:os.system [id]\n", "has no meaning here"),
    "missing services": ("routes: {}\n", "'services' is missing"),
    "misspelt section": ("servces: {}\n", "did you mean 'services'?"),
    "misspelt key": (service("replcas: 3"), "did you mean 'replicas'?"),
    "snake case": (service("memory_limit: 1Gi"), "did you mean 'memoryLimit'?"),
    "no port in the command": ("services: {web: {command: app}}\n", "no '{port}'"),
    "misspelt placeholder in a command": (
        "services: {web: {command: 'app {port} {versoin}'}}\n",
        "phoenix.yaml:1:39: services.web.command[2]: nothing is known to put in place of {versoin}",
    ),
    "misspelt placeholder instead of the port": (
        "services: {web: {command: 'app {prot}'}}\n",
        "did you mean '{port}'?",
    ),
    "misspelt placeholder in the environment": (
        service('env: {SELF: "http://127.0.0.1:{prot}/"}'),
        "phoenix.yaml:4:35: services.web.env.SELF: nothing is known to put in place of {prot}",
    ),
    "misspelt placeholder in an address": (
        rollout('checks: [{name: a, http: {url: "{cannary}/x"}}]'),
        "did you mean '{canary}'?",
    ),
    "misspelt placeholder in a check's program": (
        rollout('checks: [{name: a, exec: {command: [x, "{rout}"]}}]'),
        "{canary}, {route}, or {{rout}} for the text {rout}",
    ),
    "critical path of the canary": (
        rollout('verify: {criticalPaths: [{name: a, http: {url: "{canary}/x"}}]}'),
        "nothing is known to put in place of {canary}",
    ),
    "address that is none": (
        rollout("checks: [{name: a, http: {url: /x}}]"),
        "begins with {canary}, {route}, http://",
    ),
    "unquoted braces": ("services: {web: {command: [app, {port}]}}\n", 'write it in quotes: "{port}"'),
    "unclosed quote in the command": (
        'services: {web: {command: "app \'x {port}"}}\n',
        "No closing quotation",
    ),
    "no command": ("services: {web: {}}\n", "'command' is missing"),
    "zero replicas": (service("replicas: 0"), "1 to 100"),
    "replicas as text": (service("replicas: three"), "a whole number"),
    "replicas as a truth": (service("replicas: true"), "a whole number"),
    "number in env": (service("env: {PORT: 8080}"), "write it in quotes"),
    "name of a variable with a sign": (
        service("env: {'A=x': y}"),
        "phoenix.yaml:4:11: services.web.env.A: this cannot be the name of a variable",
    ),
    "empty name of a variable": (service("env: {'': y}"), "phoenix.yaml:4:11: services.web.env: "),
    "name of a variable with a zero byte": (
        service('env: {"A\\0": y}'),
        "phoenix.yaml:4:11: services.web.env",
    ),
    "value with a zero byte": (
        service('env: {A: "x\\0"}'),
        "phoenix.yaml:4:14: services.web.env.A: no program can be given a zero byte",
    ),
    "command with a zero byte": (
        'services: {web: {command: [app, "{port}\\0"]}}\n',
        "phoenix.yaml:1:33: services.web.command[1]: no program can be given a zero byte",
    ),
    "directory with a zero byte": (service('cwd: "x\\0"'), "phoenix.yaml:4:10: services.web.cwd: no program"),
    "check with a zero byte": (
        rollout('checks: [{name: a, exec: {command: ["x\\0"]}}]'),
        "rollouts.web.checks[0].exec.command[0]: no program can be given a zero byte",
    ),
    "variable of a check with a sign": (
        rollout("checks: [{name: a, exec: {command: [x], env: {'A=x': y}}}]"),
        "rollouts.web.checks[0].exec.env.A: this cannot be the name of a variable",
    ),
    "a mask instead of a value": (
        service("env: {A: <masked:00ff00ff>}"),
        "phoenix.yaml:4:14: services.web.env.A: this is what Phoenix shows instead of a value",
    ),
    "a mask in an address": (
        rollout('checks: [{name: a, http: {url: "http://<masked>@h/"}}]'),
        "rollouts.web.checks[0].http.url: this is what Phoenix shows instead of a value",
    ),
    "duration without unit": (service("drain: 10"), "100ms, 30s, 10m, 2h"),
    "duration in words": (service("drain: ten minutes"), "not a duration"),
    "negative duration": (service("drain: -5s"), "not a duration"),
    "endless duration": (service("drain: 99999d"), "longer than ten years"),
    "size with a space": (service("memoryLimit: 1 GB"), "512Mi"),
    "health path without slash": (service("health: {path: health}"), "begins with '/'"),
    "bad name": ("services: {My_Service: {command: 'a {port}'}}\n", "1 to 63 of a-z, 0-9"),
    "missing directory": (service("cwd: not/there"), "no such directory"),
    "bad version": (service("version: 'a b'"), "letters, digits"),
    "bad listen": (GOOD + "router: {listen: everywhere}\n", "HOST:PORT"),
    "port out of range": (GOOD + "router: {listen: 127.0.0.1:99999}\n", "no port from 1 to 65535"),
    "route to nowhere": ("services: {}\nroutes: {web: {service: web}}\n", "no service 'web'"),
    "same route twice": (GOOD + "  again: {service: web}\n", "same requests as route 'web'"),
    "path without slash": (GOOD.replace("service: web}", "service: web, pathPrefix: api}"), "leading slash"),
    "rollout of nobody": (GOOD + "rollouts: {api: {}}\n", "no service 'api' to release"),
    "two rollouts of one": (GOOD + "rollouts: {web: {}, b: {service: web}}\n", "has a rollout already"),
    "no phases": (rollout("phases: []"), "at least 1"),
    "half a phase": (rollout("phases: [{name: a, weight: 5}]"), "'weight' and 'duration'"),
    "weight of 0": (rollout("phases: [{name: a, weight: 0, duration: 1m}]"), "1 to 100"),
    "weights that fall": (
        rollout("phases: [{name: a, weight: 20, duration: 1m}, {name: b, weight: 5, duration: 1m}]"),
        "not above the 20 before it",
    ),
    "share without sign": (
        rollout("phases: [{name: a, step: 20, every: 1m, limits: {errorRate: 0.1}}]"),
        "a percentage with its sign",
    ),
    "share above all": (
        rollout("phases: [{name: a, step: 20, every: 1m, limits: {errorRate: 101%}}]"),
        "above 100%",
    ),
    "bad word": (rollout("policy: {noData: holds}"), "hold, rollback"),
    "bad regular expression": (rollout("verify: {logs: {bad: ['[']}}"), "not a regular expression"),
    "check of no kind": (rollout("checks: [{name: a}]"), "exactly one of 'http' and 'exec'"),
    "interval longer than window": (
        rollout("evidence: {interval: 5m, window: 1m}"),
        "no longer than 'window'",
    ),
}

ARGUMENTS = {
    "unknown command": (["rolout"], "did you mean 'rollout'?"),
    "unknown subcommand": (["rollout", "pomote", "web"], "Did you mean 'promote'?"),
    "unknown option": (["get", "rollouts", "--outptu", "json"], "--output"),
    "bad output": (["get", "rollouts", "-o", "xml"], "'table', 'json', 'yaml'"),
    "missing name": (["rollout", "status"], "missing argument 'NAME'"),
    "one name too many": (["rollout", "status", "web", "api"], "unexpected extra argument"),
    "bad speed": (["up", "--speed", "0"], "--speed"),
    "speed in words": (["up", "--speed", "fast"], "--speed"),
    "bad timeout": (["rollout", "status", "web", "--wait", "--timeout", "soon"], "not a duration"),
    "bad revision": (["rollout", "undo", "web", "--to-revision", "last"], "--to-revision"),
    "bad lines": (["service", "logs", "web", "--lines", "-1"], "--lines"),
    "bad shell": (["completion", "tcsh"], "'bash', 'zsh', 'fish'"),
    "bad component": (["serve", "everything"], "'orchestrator'"),
    "misspelt component": (["serve", "helth-validator"], "did you mean 'health-validator'?"),
    "misspelt output": (["get", "rollouts", "-o", "jsn"], "did you mean 'json'?"),
    "file that is not there": (["apply", "-f", "nope.yaml"], "there is no file nope.yaml"),
    "directory as file": (["validate", "-f", "."], "is a directory"),
    "start of nothing": (["rollout", "start", "web"], "nothing to release"),
    "env without value": (["rollout", "start", "web", "--env", "DEBUG"], "KEY=VALUE"),
    "env twice": (["rollout", "start", "web", "--env", "A=1", "--env", "A=2"], "names A twice"),
    "command without port": (["rollout", "start", "web", "--command", "app"], "no '{port}'"),
    "command with open quote": (
        ["rollout", "start", "web", "--command", "'app {port}"],
        "No closing quotation",
    ),
    "unknown rollout": (["rollout", "status", "wbe"], "there is no rollout 'wbe'"),
    "unknown rollout to pause": (["rollout", "pause", "wbe"], "there is no rollout 'wbe'"),
    "unknown rollout to describe": (["describe", "rollout", "wbe"], "there is no rollout 'wbe'"),
    "unknown rollout to watch": (["rollout", "watch", "wbe"], "there is no rollout 'wbe'"),
    "unknown service": (["service", "restart", "wbe"], "there is no service 'wbe'"),
    "unknown service to log": (["service", "logs", "wbe"], "there is no service 'wbe'"),
    "unknown instance": (["service", "logs", "web", "--instance", "x"], "no instance 'x'"),
    "unknown revision": (["rollout", "undo", "web", "--to-revision", "77"], "no revision 77"),
    "a path as name": (["rollout", "status", "../web"], "there is no"),
    "an empty name": (["rollout", "status", ""], "there is nothing with the name"),
    "no reason given": (["rollout", "abort", "web", "--reason"], "requires an argument"),
}

STATES = {
    "resume of what runs": (State.PROGRESSING, ["rollout", "resume", "web"], "only a paused rollout"),
    "pause at rest": (State.IDLE, ["rollout", "pause", "web"], "starting or progressing"),
    "promote at rest": (State.PROMOTED, ["rollout", "promote", "web"], "no step to skip"),
    "promote in the bake": (State.BAKING, ["rollout", "promote", "web"], "promote web --end-bake"),
    "promote another step": (
        State.PROGRESSING,
        ["rollout", "promote", "web", "--step", "3"],
        "it is at step 1 and not at step 3",
    ),
    "the same as a dry run": (
        State.BAKING,
        ["rollout", "promote", "web", "--full", "--dry-run"],
        "promote web --end-bake",
    ),
    "no bake to end": (State.PROGRESSING, ["rollout", "promote", "web", "--end-bake"], "no bake to end"),
    "steps and bake at once": (
        State.BAKING,
        ["rollout", "promote", "web", "--end-bake", "--full"],
        "--end-bake stands alone",
    ),
    "full promote after a rollback": (
        State.ROLLED_BACK,
        ["rollout", "promote", "web", "--full"],
        "nothing to promote",
    ),
    "abort of nothing": (State.IDLE, ["rollout", "abort", "web"], "no release to abort"),
    "retry of what runs": (State.PROGRESSING, ["rollout", "retry", "web"], "only a rolled back release"),
    "dry run of what cannot be": (
        State.IDLE,
        ["rollout", "pause", "web", "--dry-run"],
        "starting or progressing",
    ),
    "dry run of an abort": (State.IDLE, ["rollout", "abort", "web", "--dry-run"], "no release to abort"),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("d")
    with serving(FakeOperations(), data_dir) as operations:
        operations.data_dir = data_dir
        yield operations


@pytest.fixture
def refused(served, tmp_path, monkeypatch, capsys):
    """Runs a command line that has to be refused, and gives what was shown."""
    served.__init__()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(served.data_dir))

    def check(arguments):
        before = _contents(tmp_path), _contents(served.data_dir)
        status = main.run(arguments)
        shown = capsys.readouterr()
        assert status == 2, shown.err
        assert shown.out == ""
        lines = shown.err.splitlines()
        assert lines[0].startswith("error: ")
        assert lines[-1].startswith("  what to do: ")
        assert len(lines[-1]) > len("  what to do: ") + 5
        assert len(lines) <= SCREEN
        assert "Traceback" not in shown.err
        assert (_contents(tmp_path), _contents(served.data_dir)) == before
        assert served.calls == []
        return shown.err

    return check


def _contents(directory: Path):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", ["validate", "apply", "up"])
@pytest.mark.parametrize("case", FILES)
def test_files(refused, tmp_path, case, command):
    text, words = FILES[case]
    (tmp_path / "phoenix.yaml").write_text(text)
    shown = refused([command, "-f", "phoenix.yaml"])
    assert words in shown
    assert "phoenix.yaml" in shown


@pytest.mark.parametrize("case", ARGUMENTS)
def test_flags_and_names(refused, case):
    arguments, words = ARGUMENTS[case]
    assert words in refused(arguments)


@pytest.mark.parametrize("case", STATES)
def test_states(refused, served, case):
    state, arguments, words = STATES[case]
    served.pictures = [view(state)]
    assert words in refused(arguments)


def test_a_latched_revision_is_not_started_again(refused, served):
    served.latched = True
    assert "is latched" in refused(["rollout", "start", "web", "--version", "2"])


def test_init_overwrites_nothing(refused, tmp_path):
    (tmp_path / "phoenix.yaml").write_text("mine\n")
    assert "is there already" in refused(["init"])
    assert "is there already" in refused(["init", str(tmp_path)])
    assert "cannot be written" in refused(["init", "no/such/directory/phoenix.yaml"])


def test_bytes_that_are_no_text(refused, tmp_path):
    (tmp_path / "phoenix.yaml").write_bytes(b"services:\n  web: \xff\n")
    assert "phoenix.yaml:2:8: byte 0xff is not UTF-8" in refused(["validate"])


def test_a_file_of_too_many_characters(refused, tmp_path):
    (tmp_path / "phoenix.yaml").write_text("# " + "x" * 300_000)
    assert "at most 262,144" in refused(["validate"])


def test_hundreds_of_errors_fit_one_screen(refused, tmp_path):
    (tmp_path / "phoenix.yaml").write_text("services:\n" + "".join(f"  s{n}: {{}}\n" for n in range(300)))
    assert "has 300 errors" in refused(["validate"])


def test_no_phoenix_is_another_exit_status_with_another_remedy(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(tmp_path))
    for arguments in (
        ["get", "rollouts"],
        ["rollout", "start", "web", "--version", "2"],
        ["service", "list"],
    ):
        assert main.run(arguments) == 3
        assert "phoenix up" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

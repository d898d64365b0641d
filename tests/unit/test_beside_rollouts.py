"""What an apply tells of everything that is no rollout: what is new, what changes, what is gone."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix_orch.orchestrator.beside_rollouts import beside_rollouts
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.declared import merge

SECRET = "hunter2"


def file(**sections: Any) -> PhoenixFile:
    return PhoenixFile.model_validate({"services": {}, **sections})


def told(before: dict[str, Any] | None, after: dict[str, Any], *, starting: bool = False) -> list[str]:
    known = None if before is None else file(**before)
    found = beside_rollouts(known, merge(known, file(**after)), starting=starting)
    return [f"{change.kind.value} {change.target}: {change.detail}" for change in found]


TASK = {"command": "report", "env": {"TOKEN": SECRET}}
STORAGE = {"folder": "/mnt/backups"}
KEYS = [
    {"name": "online", "key": "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"},
    {
        "name": "safe",
        "key": "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg",
        "offline": True,
    },
]
BACKUP = {"storage": STORAGE, "recipients": KEYS}
OIDC = {
    "issuer": "https://id.example",
    "clientId": "phoenix",
    "grants": [{"claim": "groups", "value": "ops", "role": "operator"}],
}
CASES: dict[str, tuple[dict[str, Any] | None, dict[str, Any], list[str]]] = {
    "nothing at all": (None, {}, []),
    "the same again": ({"tasks": {"a": TASK}}, {"tasks": {"a": TASK}}, []),
    "left out: those before stay": ({"tasks": {"a": TASK}, "freezes": [{"name": "x"}]}, {}, []),
    "a task by hand": (None, {"tasks": {"a": TASK}}, ["create task/a: is new"]),
    "a task on a schedule": (
        {},
        {"tasks": {"a": {**TASK, "every": "5m"}}},
        ["create task/a: is new", "create schedule/a: runs every 5m"],
    ),
    "another schedule alone": (
        {"tasks": {"a": {**TASK, "every": "5m"}}},
        {"tasks": {"a": {**TASK, "schedule": "0 3 * * *"}}},
        ["configure schedule/a: runs 0 3 * * *, and ran every 5m"],
    ),
    "no schedule any more": (
        {"tasks": {"a": {**TASK, "every": "5m"}}},
        {"tasks": {"a": TASK}},
        ["remove schedule/a: ran every 5m; no slot comes any more"],
    ),
    "another environment": (
        {"tasks": {"a": TASK}},
        {"tasks": {"a": {**TASK, "env": {"TOKEN": f"{SECRET}!"}, "keep": "2d"}}},
        ["configure task/a: other than before: env, keep"],
    ),
    "one task for another": (
        {"tasks": {"a": TASK}},
        {"tasks": {"b": TASK}},
        ["remove task/a: is no longer in the file", "create task/b: is new"],
    ),
    "freezes": (
        {"freezes": [{"name": "x", "reason": "one"}, {"name": "y"}]},
        {"freezes": [{"name": "x", "reason": "two"}, {"name": "z"}]},
        [
            "configure freeze/x: other than before: reason",
            "remove freeze/y: is no longer in the file",
            "create freeze/z: is new",
        ],
    ),
    "audit": (
        {},
        {"audit": {"retention": "30d"}},
        ["create audit: is new"],
    ),
    "backup": ({}, {"backup": BACKUP}, ["create backup: is new"]),
    "another storage, more often": (
        {"backup": BACKUP},
        {"backup": {**BACKUP, "storage": {"folder": "/mnt/other"}, "schedule": {"config": "10m"}}},
        ["configure backup: other than before: schedule.config, storage.folder"],
    ),
    "the API": (
        {},
        {"api": {"listen": "127.0.0.1:7008"}},
        ["configure api: other than before: listen; from the next start of Phoenix on"],
    ),
    "who gets in": (
        {},
        {"api": {"oidc": OIDC}},
        ["create identity: is new; from the next start of Phoenix on"],
    ),
    "no status page any more": (
        {"statusPage": {"directory": "/srv/status"}},
        {},
        ["remove status-page: is no longer in the file; from the next start of Phoenix on"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_told(case: str) -> None:
    before, after, words = CASES[case]
    found = told(before, after)
    assert found == words
    assert SECRET not in str(found)


def test_at_the_start_all_of_it_holds_at_once() -> None:
    assert told({}, {"api": {"oidc": OIDC}}, starting=True) == ["create identity: is new"]


def test_many_places_are_counted() -> None:
    every = {"config": "9m", "redis": "9m", "volume": "9m"}
    kept = {"hourly": 9, "daily": 9, "weekly": 9, "keepLast": 9}
    (line,) = told({"backup": BACKUP}, {"backup": {**BACKUP, "schedule": every, "retention": kept}})
    assert line == (
        "configure backup: other than before: retention.daily, retention.hourly, retention.keepLast, "
        "retention.weekly, schedule.config, schedule.redis and 1 more"
    )


def test_groups() -> None:
    web = {
        "services": {"web": {"command": "serve {port}"}},
        "routes": {"web": {"service": "web"}},
    }
    one = PhoenixFile.model_validate({**web, "groups": [{"name": "all", "rollouts": ["web"]}]})
    two = PhoenixFile.model_validate(
        {**web, "groups": [{"name": "all", "rollouts": ["web"], "maxConcurrent": 1}]}
    )
    (change,) = beside_rollouts(one, two, starting=False)
    assert (change.target, change.detail) == ("group/all", "other than before: maxConcurrent")

"""Write what is generated from the code: the schemas, and the reference of commands, file, API and resource.

    python -m phoenix_orch.schema.reference [--check] [ROOT]

With `--check` nothing is written; exit status 1 when a file is not what the code gives.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from phoenix_orch.orchestrator.config import PhoenixFile, schema
from phoenix_orch.rollout import crd
from phoenix_orch.schema import fields, manifest_page, metrics_page, rights_page, rollout_page
from phoenix_orch.schema.titles import FILE

MADE = "Generated from the code by `make docs`. Changes here are lost."
GENERATED = f"<!-- {MADE} -->"

CLI_INTRODUCTION = (
    "`--data-dir` may stand before or after the command; without it PHOENIX_DATA_DIR counts, then "
    "`phoenix` below XDG_DATA_HOME, then `~/.local/share/phoenix`. "
    "[Exit codes](exit-codes.md) and [JSON output](json-output.md) have their own pages."
)
FILE_INTRODUCTION = (
    "YAML 1.2: `yes` and `on` are text. Keys are camelCase; unknown and repeated keys are refused. "
    "Durations are written `100ms`, `30s`, `10m`, `1h30m`; shares `0.1%`; sizes `512Mi`, `1Gi`, `100M`. "
    "No environment variable is expanded. `phoenix init` writes a commented example, `phoenix validate` "
    "checks a file, and `phoenix schema` prints its JSON Schema for editors: put "
    "`# yaml-language-server: $schema=phoenix.schema.json` into the first line."
)


def files() -> Mapping[str, str]:
    """Path below the project's root → text, of everything that is generated."""
    return {
        "src/phoenix_orch/schema/phoenix.schema.json": json.dumps(schema(), indent=2) + "\n",
        "docs/reference/cli.md": cli_page(),
        "docs/reference/configuration.md": configuration_page(),
        "docs/reference/api.md": api_page(),
        crd.PATH: f"# {MADE}\n{crd.text()}",
        manifest_page.PATH: manifest_page.page(GENERATED),
        metrics_page.PATH: metrics_page.page(GENERATED),
        rights_page.PATH: rights_page.page(GENERATED),
        rollout_page.PATH: rollout_page.page(GENERATED),
    }


# -- commands --------------------------------------------------------------------------------------


def cli_page() -> str:
    from phoenix_orch.cli.root import SECTIONS, load  # noqa: PLC0415 - only the page needs the whole tree

    parts = [
        "# The command line",
        GENERATED,
        CLI_INTRODUCTION,
    ]
    for title, branches in SECTIONS.items():
        parts.append(f"## {title}")
        for name in branches:
            parts += _command(f"phoenix {name}", load(name))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _command(path: str, command: Any) -> Iterator[str]:
    children = getattr(command, "commands", None)
    if children:
        yield f"### {path}\n\n{_clean(command.help)}"
        for name, child in children.items():
            if not child.hidden:
                yield from _command(f"{path} {name}", child)
        return
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    usage = " ".join([path, *(_argument(p) for p in arguments), *(["[OPTIONS]"] if options else [])])
    yield f"### {path}\n\n```\n{usage}\n```\n\n{_clean(command.help)}"
    if options:
        yield "| option | |\n|---|---|\n" + "\n".join(f"| `{_option(p)}` | {_help(p)} |" for p in options)


def _argument(parameter: Any) -> str:
    name = parameter.metavar or (
        "|".join(parameter.type_descriptor.choices)
        if parameter.type_descriptor.is_choice
        else parameter.name.upper()
    )
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def _option(parameter: Any) -> str:
    names = ", ".join(parameter.opts)
    if parameter.is_flag:
        return names
    choices = parameter.type_descriptor.choices if parameter.type_descriptor.is_choice else None
    value = parameter.metavar or (r"\|".join(choices) if choices else parameter.name.upper())
    return f"{names} {value}"


def _help(parameter: Any) -> str:
    text = _clean(parameter.help).replace("\n", " ").replace("|", r"\|")
    default = parameter.show_default if isinstance(parameter.show_default, str) else parameter.default
    if isinstance(default, Path | str | int | float) and str(default) not in ("", ".", "False"):
        text += f" Default: `{getattr(default, 'value', default)}`."
    return text


def _clean(text: str | None) -> str:
    return re.sub(r"[ \t]+\n", "\n", (text or "").replace("\f", "").strip())


# -- the file --------------------------------------------------------------------------------------


def configuration_page() -> str:
    parts = [
        "# phoenix.yaml",
        GENERATED,
        FILE_INTRODUCTION,
        *fields.sections(PhoenixFile, FILE),
    ]
    return "\n\n".join(parts) + "\n"


# -- the API ---------------------------------------------------------------------------------------


def api_page() -> str:
    from phoenix_orch.api.openapi import operations  # noqa: PLC0415
    from phoenix_orch.api.server import create_app  # noqa: PLC0415 - a second of imports
    from phoenix_orch.orchestrator.identity import Doorkeeper  # noqa: PLC0415
    from phoenix_orch.orchestrator.operations_port import Operations  # noqa: PLC0415

    identity = typing.cast("Doorkeeper", types.SimpleNamespace(tokens=None, approving=None, others=None))
    app = create_app(typing.cast("Operations", None), identity=identity)
    rows = []
    for path, method, operation in operations(app.openapi()):
        query = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"]
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        given = ", ".join(f"`?{name}`" for name in query) or (_type(body) if body else "")
        success = next(code for code in operation["responses"] if code.startswith("2"))
        told = operation.get("description", "").strip().replace("\n", " ")
        rows.append(
            f"| {method.upper()} `{path}` | {given} | {_given(operation['responses'][success])} | {told} |"
        )
    return (
        API_INTRODUCTION
        + "\n| call | takes | gives | |\n|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
        + _bodies(app)
    )


def _given(answer: Mapping[str, Any]) -> str:
    """What a call answers when all is well."""
    content = answer.get("content", {})
    if "text/event-stream" in content:
        return "events"
    found = content.get("application/json", {}).get("schema")
    return _type(found) if found is not None else "text" if content else "nothing"


def _bodies(app: Any) -> str:
    lines = ["\n## Bodies\n"]
    schemas = app.openapi()["components"]["schemas"]
    for name in ("CommandRequest", "StartRequest", "UndoRequest", "ApplyRequest"):
        found = schemas[name]
        required = set(found.get("required", ()))
        lines.append(f"**{name}**\n")
        for field, about in found["properties"].items():
            need = "required" if field in required else "may be left out"
            lines.append(f"- `{field}`: {_type(about)}, {need}")
        lines.append("")
    lines.append(f"`kind` is one of {', '.join(f'`{word}`' for word in schemas['CommandKind']['enum'])}.")
    return "\n".join(lines) + "\n"


def _type(found: Mapping[str, Any]) -> str:
    if "$ref" in found:
        return str(found["$ref"]).rsplit("/", 1)[-1].removesuffix("-Output").removesuffix("-Input")
    if "anyOf" in found:
        return " or ".join(_type(option) for option in found["anyOf"])
    if found.get("type") == "array":
        return f"list of {_type(found['items'])}" if "items" in found else "list"
    return str(found.get("type", "anything"))


API_INTRODUCTION = f"""# The HTTP API

{GENERATED}
Phoenix serves HTTP on the unix socket `phoenix.sock` of its data directory, readable and writable by its
owner alone. Nothing listens on the network. The kernel tells who connected; that user is the actor of
what is changed.

```
curl --unix-socket ~/.local/share/phoenix/phoenix.sock http://phoenix/api/v1/rollouts/web
```

Within `v1` fields are added, and none is renamed or removed. `/api/v1/openapi.json` describes all of it.
Answers are the models of [JSON output](json-output.md); values of environments and what is secret in
addresses are [masked](secrets.md). A body has at most 1 MiB, a reason at most 500 characters.

## Repeats, pages, versions

- **Repeats.** Whatever changes something takes a header `Idempotency-Key` of 1 to 200 characters. The same
  key with the same request gets the same answer for 24 hours, also after a restart, with
  `Idempotent-Replayed: true`; with another request 422; while the first is under way 409. Answers of 5xx are
  not kept, and neither is `needs_second_person`: once somebody has agreed, the same request with the same key
  acts.
- **Pages.** Lists take `limit` and `cursor`. Where there is more, a header `Link: <…>; rel="next"` has the
  address of the next page. Lists by time begin with the newest page, and each page with its oldest entry.
- **Versions.** Answers in JSON have an `ETag`; `If-None-Match` with it gets 304 and no body. `If-Match` with
  the one of `/config` lets an apply through only if nobody has applied something since; else 412.

## Streams

Server-sent events, `text/event-stream`. Each message has an `id`; with `Last-Event-ID` the next connection
goes on behind it. A comment comes after 15 s of silence.

| event | data |
|---|---|
| `rollout` | a RolloutView: at the beginning (of one rollout), and whenever more than its moments changed |
| `verdict`, `event`, `observation` | of one rollout, as they come |
| `components` | of all rollouts: the components with their states |
| `gone` | the rollout was removed; of one rollout the last message |
| `away` | the store or the router cannot be read now: `detail`, `remedy` |
| `reset` | something was missed: read again what you show |
| `reconnect` | come back in a second: Phoenix ends, or the connection is 15 minutes old |

## Errors

An error is an `application/problem+json` document (RFC 9457): `type`, `title`, `status`, `code`, `detail`
(what was found), `remedy` (what to do), and `errors` (field and message of each) for a request that is
not valid.

| code | status | |
|---|---|---|
| `invalid` | 422 | the request is not valid; 413 for a body that is too large, 400 for one that is no text |
| `not_found` | 404 | there is nothing of this name |
| `bad_state` | 409 | right, but not in the present state |
| `conflict` | 409 | somebody else changed it in between; read again |
| `outdated` | 412 | what `If-Match` names is not what is there any more |
| `latched` | 409 | the revision was rolled back; only `retry` lifts the latch |
| `retryable`, `unavailable` | 503 | store or router are away; the same call may succeed later |
| `terminal`, `internal` | 500 | it will not work however often it is tried |

## Calls
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="the project's root")
    parser.add_argument("--check", action="store_true", help="write nothing; tell what is not up to date")
    given = parser.parse_args(arguments)
    stale = []
    for name, text in files().items():
        path = given.root / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not given.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for name in stale:
        sys.stdout.write(f"{'not up to date' if given.check else 'wrote'}: {name}\n")
    return 1 if stale and given.check else 0


if __name__ == "__main__":
    sys.exit(main())

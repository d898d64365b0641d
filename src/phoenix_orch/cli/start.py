"""`phoenix init`, `validate`, `schema`, `crd`: before anything runs."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from phoenix_orch.cli.options import DEFAULT_FILE, DryRun, File, Output, OutputOption
from phoenix_orch.cli.output import columns, emit, say
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.config import PhoenixFile, load
from phoenix_orch.orchestrator.config import schema as json_schema
from phoenix_orch.rollout.crd import text as definition


def init(
    path: Annotated[
        Path, typer.Argument(metavar="[PATH]", help="A file, or a directory for phoenix.yaml.")
    ] = DEFAULT_FILE,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Write a commented phoenix.yaml to start from."""
    target = path / DEFAULT_FILE if path.is_dir() else path
    text = files("phoenix_orch.schema").joinpath("template.yaml").read_text(encoding="utf-8")
    if dry_run:
        if target.exists() and not force:
            raise _is_there(target)
        say(f"would write {target}")
        return
    try:
        with target.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise _is_there(target) from None
    except OSError as error:
        raise Invalid(
            f"{target} cannot be written: {(error.strerror or str(error)).lower()}",
            remedy="name another place",
        ) from None
    say(f"wrote {target}\nnext: `phoenix up -f {target}`, then call http://127.0.0.1:8080")


def _is_there(target: Path) -> Invalid:
    return Invalid(f"{target} is there already", remedy="--force overwrites it; or name another file")


def validate(file: File = DEFAULT_FILE, output: OutputOption = Output.TABLE) -> None:
    """Check a phoenix.yaml; change nothing."""
    config = load(file)
    emit(output, config, _summary(file, config))


def schema() -> None:
    """Print the JSON Schema of phoenix.yaml."""
    print(json.dumps(json_schema(), indent=2))


def crd() -> None:
    """Print the definition of the Rollout resource for Kubernetes.

    phoenix crd | kubectl apply --server-side -f -
    """
    print(definition(), end="")


def _summary(file: Path, config: PhoenixFile) -> str:
    entries = config.effective_rollouts()
    routed = {entry.service for entry in entries.values()}
    rows = []
    for name, entry in entries.items():
        service = config.services[entry.service or name]
        route = config.routes[entry.route or name]
        weights = " ".join(f"{step.weight}%" for step in entry.steps())
        where = f"{route.host or config.router.url.removeprefix('http://')}{route.path_prefix}"
        rows.append((entry.service or name, service.version, str(service.replicas), where, name, weights))
    rows += [
        (name, spec.version, str(spec.replicas), "no route", "no rollout", "-")
        for name, spec in config.services.items()
        if name not in routed
    ]
    table = columns(
        ("SERVICE", "VERSION", "REPLICAS", "ROUTE", "ROLLOUT", "STEPS"), rows, empty="no services"
    )
    return f"{file} is valid\n{table}"

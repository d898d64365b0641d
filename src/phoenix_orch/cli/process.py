"""`phoenix up`, `down`, `serve`, `demo`: processes."""

from __future__ import annotations

import importlib
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from phoenix_orch.cli import cluster_options
from phoenix_orch.cli.cluster_options import (
    APP_VARIABLE,
    PROMETHEUS_VARIABLE,
    STORE_VARIABLE,
    Certificate,
    CertificateKey,
    ClusterFile,
    Context,
    Kubeconfig,
    Kubernetes,
    Listen,
    Metrics,
    Namespace,
    Probes,
    Prometheus,
)
from phoenix_orch.cli.options import DEFAULT_FILE, UNSET, DataDir, DryRun, Speed
from phoenix_orch.cli.output import say
from phoenix_orch.cli.progress import working
from phoenix_orch.kernel.errors import Invalid

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="A Valkey or Redis; left out: the one of the data directory. In a cluster: PHOENIX_STORE.",
    ),
]


LISTEN_VARIABLE = "PHOENIX_LISTEN"


class Component(StrEnum):
    ORCHESTRATOR = "orchestrator"
    HEALTH_VALIDATOR = "health-validator"
    ROLLBACK_CONTROLLER = "rollback-controller"


def up(  # noqa: PLR0917 - options, given by name
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="The configuration.",
            show_default="phoenix.yaml where there is one",
        ),
    ] = None,
    data_dir: DataDir = UNSET,
    speed: Speed = 1.0,
    store: Store = None,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="ADDRESS",
            help=f"Answer the API and the console there, too: [HOST:]PORT, or off. [env: {LISTEN_VARIABLE}]",
            show_default="api.listen of the file, 127.0.0.1:7007",
        ),
    ] = None,
    no_listen: Annotated[bool, typer.Option("--no-listen", help="The same as --listen off.")] = False,
) -> int:
    """Run Phoenix in the foreground, with the services of a file.

    Without a file, and without a phoenix.yaml here, it goes on with what was applied last. Ctrl-C ends
    everything in order.
    """
    if file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE
    with working("starting Phoenix"):
        serve_api = _later("phoenix_orch.console.serving").serve_operations
        run_up = _later("phoenix_orch.orchestrator.up").run_up
    where = "off" if no_listen else listen or os.environ.get(LISTEN_VARIABLE) or None
    return int(run_up(file, data_dir, speed, serve_api, store_url=store, listen=where))


def down(dry_run: DryRun = False, data_dir: DataDir = UNSET) -> None:
    """End in order what a Phoenix that died left behind."""
    _later("phoenix_orch.cli.reaching").here_only("processes", "look with `phoenix get`")
    found = _later("phoenix_orch.orchestrator.up").run_down(data_dir, dry_run=dry_run)
    verb = "would end" if dry_run else "ended"
    say("\n".join(f"{verb} {one}" for one in found) or f"nothing runs for {data_dir}")


def serve(  # noqa: PLR0917 - options, given by name
    component: Annotated[Component, typer.Argument(help="Which one.")],
    data_dir: DataDir = UNSET,
    store: Store = None,
    speed: Speed = 1.0,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    prometheus: Prometheus = None,
    probes: Probes = None,
    metrics: Metrics = None,
    listen: Listen = None,
    tls_certificate: Certificate = None,
    tls_key: CertificateKey = None,
    file: ClusterFile = None,
) -> int:
    """Run one component in a process of its own.

    With --kubernetes it works on the Rollouts of a namespace, as the one of several that holds the Lease. In
    a pod whose label `app`, told as PHOENIX_APP, is not the Lease's name it never leads: it is a canary.
    """
    if kubernetes:
        if speed != 1.0:
            raise Invalid("--speed is not for a cluster", remedy="its time is everybody's")
        words = prometheus or os.environ.get(PROMETHEUS_VARIABLE, "").split()
        module = _later("phoenix_orch.orchestrator.kubernetes")
        settings = module.ClusterSettings(
            store_url=_store(store),
            namespace=namespace,
            kubeconfig=kubeconfig,
            context=context,
            prometheus=cluster_options.endpoints(words),
            probes=cluster_options.listener("--probes", probes),
            metrics=cluster_options.listener("--metrics", metrics),
            api=_api(component, listen),
            tls=cluster_options.certificate(tls_certificate, tls_key),
            file=_file(file, listen),
            app=os.environ.get(APP_VARIABLE),
        )
        if settings.api is None:
            return int(module.run_in_cluster(component.value, settings))
        serve_in_cluster = _later("phoenix_orch.console.in_cluster").serve_in_cluster
        return int(module.run_in_cluster(component.value, settings, serve_in_cluster))
    given = {
        "--namespace": namespace,
        "--kubeconfig": kubeconfig,
        "--context": context,
        "--prometheus": prometheus,
        "--probes": probes,
        "--metrics": metrics,
        "--listen": listen,
        "--tls-certificate": tls_certificate,
        "--tls-key": tls_key,
        "--file": file,
    }
    cluster_options.only_in_cluster(given, kubernetes=False)
    serve_api = _later("phoenix_orch.console.serving").serve_operations
    run_serve = _later("phoenix_orch.orchestrator.serve").run_serve
    where = os.environ.get(LISTEN_VARIABLE) or None
    return int(run_serve(component.value, data_dir, store, speed, serve_api, listen=where))


def _api(component: Component, listen: str | None) -> tuple[str, int] | None:
    if listen is not None and component is not Component.ORCHESTRATOR:
        raise Invalid(
            f"--listen is not for the {component.value}", remedy="the orchestrator is who serves the API"
        )
    return cluster_options.listener("--listen", listen)


def _file(file: Path | None, listen: str | None) -> Path | None:
    if file is not None and listen is None:
        raise Invalid("--file says what the API's orchestrator does", remedy="add --listen")
    return file


def _store(given: str | None) -> str:
    url = given or os.environ.get(STORE_VARIABLE)
    if url is None:
        raise Invalid(
            "there is no Redis or Valkey for verdicts and history",
            remedy=f"give --store redis://HOST, or {STORE_VARIABLE}",
        )
    return url


def demo(  # noqa: PLR0917 - options, given by name
    speed: Annotated[
        float,
        typer.Option(
            "--speed", metavar="N", min=1, max=600, help="Compress time: an hour lasts 1/N of an hour."
        ),
    ] = 20.0,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", metavar="DIR", help="Keep everything there; left out: nowhere."),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="A line per change instead of a live view.")] = False,
    only: Annotated[
        str,
        typer.Option("--only", metavar="NAMES", help="Some of good,errors,slow,crash.", show_default="all"),
    ] = "",
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write what came of it as JSON, too.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Do not remove its files at the end.")] = False,
) -> int:
    """Release a good version and three bad ones, live.

    Exit status 0 when every release ended as it should, 1 when one did not.
    """
    names = [name.strip() for name in only.split(",") if name.strip()]
    return int(
        _later("phoenix_orch.demo.run").run_demo(
            speed=speed, data_dir=data_dir, plain=plain, releases=names, report_json=report, keep=keep
        )
    )


def _later(module: str) -> Any:
    """What a process needs takes a second to import: only once its command line is known to be right."""
    return importlib.import_module(module)

"""Options of commands that work in a Kubernetes cluster. Imports nothing heavy."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.cluster.access import Access

R = TypeVar("R")

STORE_VARIABLE = "PHOENIX_STORE"
PROMETHEUS_VARIABLE = "PHOENIX_PROMETHEUS"
APP_VARIABLE = "PHOENIX_APP"
"""The label `app` of the pod, as the manifests tell it."""
_DEFAULT = "default"

Kubernetes = Annotated[bool, typer.Option("--kubernetes", help="In a cluster instead of on this machine.")]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAME",
        help="With --kubernetes: left out, that of the context, or of the pod.",
    ),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        metavar="FILE",
        help="With --kubernetes: left out, as kubectl finds it, or the pod's service account.",
    ),
]
Context = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="With --kubernetes: of the kubeconfig.")
]
Log = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="With --kubernetes: the Valkey or Redis with events, history and observations."
        f" [env: {STORE_VARIABLE}]",
    ),
]
Prometheus = Annotated[
    list[str] | None,
    typer.Option(
        "--prometheus",
        metavar="[NAME=]URL",
        help="With --kubernetes: an endpoint that rollouts may name; several of one name are asked in turn."
        f" May be repeated. [env: {PROMETHEUS_VARIABLE}]",
    ),
]
Probes = Annotated[
    str | None,
    typer.Option(
        "--probes",
        metavar="[HOST:]PORT",
        help="With --kubernetes: answer /livez and /readyz there.",
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="[HOST:]PORT",
        help="With --kubernetes: answer /metrics there.",
    ),
]
Listen = Annotated[
    str | None,
    typer.Option(
        "--listen",
        metavar="[HOST:]PORT",
        help="With --kubernetes: the orchestrator answers its API there.",
    ),
]
Certificate = Annotated[
    Path | None,
    typer.Option(
        "--tls-certificate",
        metavar="FILE",
        help="With --listen: the API speaks TLS with this chain, read anew when the file changes.",
    ),
]
ClusterFile = Annotated[
    Path | None,
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        help="With --listen: tasks and who gets in, read anew when it changes; it need not be there.",
    ),
]
CertificateKey = Annotated[
    Path | None,
    typer.Option("--tls-key", metavar="FILE", help="With --tls-certificate: its key."),
]


def or_in_cluster(*, log: bool = False) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Gives a command the options that name a cluster, in place of its parameter `there`: the Access that
    they make, or None for this machine. `log`: it also reads what is in the log beside the cluster."""
    options: dict[str, tuple[Any, object]] = {
        "kubernetes": (Kubernetes, False),
        "namespace": (Namespace, None),
        "kubeconfig": (Kubeconfig, None),
        "context": (Context, None),
        **({"store": (Log, None)} if log else {}),
    }

    def extended(command: Callable[..., R]) -> Callable[..., R]:
        signature = inspect.signature(command, eval_str=True)
        own = [one for name, one in signature.parameters.items() if name != "there"]
        named = inspect.Parameter.KEYWORD_ONLY
        more = [
            inspect.Parameter(name, named, default=default, annotation=kind)
            for name, (kind, default) in options.items()
        ]

        @functools.wraps(command)
        def wrapper(**given: Any) -> R:
            there = access(**{name: given.pop(name) for name in options})
            return command(**given, there=there)

        # What Typer reads the options from.
        wrapper.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
        wrapper.__annotations__ = {one.name: one.annotation for one in (*own, *more)}
        return wrapper

    return extended


def access(
    *,
    kubernetes: bool,
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
    store: str | None = None,
) -> Access | None:
    """Which cluster is meant; None: this machine. Raises Invalid for options of a cluster without one."""
    given = {"--namespace": namespace, "--kubeconfig": kubeconfig, "--context": context, "--store": store}
    only_in_cluster(given, kubernetes=kubernetes)
    if not kubernetes:
        return None
    return Access(namespace, kubeconfig, context, store or os.environ.get(STORE_VARIABLE) or None)


def only_in_cluster(given: Mapping[str, object], *, kubernetes: bool) -> None:
    """Raises Invalid where one of these options is given without --kubernetes."""
    named = [option for option, value in given.items() if value is not None]
    if named and not kubernetes:
        raise Invalid(f"{named[0]} is for a cluster", remedy="add --kubernetes")


def endpoints(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Addresses by name. Raises Invalid."""
    found: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, equals, url = word.partition("=")
        if not equals or "/" in name:
            name, url = _DEFAULT, word
        if not url.startswith(("http://", "https://")):
            raise Invalid(
                f"--prometheus {name}: its address does not begin with http:// or https://",
                remedy="for example --prometheus http://prometheus.monitoring:9090",
            )
        found[name] = (*found.get(name, ()), url)
    return found


def listener(option: str, text: str | None) -> tuple[str, int] | None:
    """Where to answer; all addresses where only a port is given. Raises Invalid."""
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise Invalid(f"{option} {text}: {port!r} is no port", remedy=f"for example {option} 8081")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - who asks is outside the pod


def certificate(chain: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    """Files of the API's TLS; None: none. Raises Invalid where one of them is missing."""
    if chain is None and key is None:
        return None
    if chain is None or key is None:
        raise Invalid(
            "a certificate and its key belong together", remedy="give --tls-certificate and --tls-key"
        )
    return chain, key

"""Options of commands that work in a Kubernetes cluster. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phoenix_orch.kernel.errors import Invalid

if TYPE_CHECKING:
    from phoenix_orch.orchestrator.cluster.person import Access

STORE_VARIABLE = "PHOENIX_STORE"
PROMETHEUS_VARIABLE = "PHOENIX_PROMETHEUS"
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


def access(
    *, kubernetes: bool, namespace: str | None, kubeconfig: Path | None, context: str | None
) -> Access | None:
    """Which cluster is meant; None: this machine. Raises Invalid for options of a cluster without one."""
    given = {"--namespace": namespace, "--kubeconfig": kubeconfig, "--context": context}
    only_in_cluster(given, kubernetes=kubernetes)
    if not kubernetes:
        return None
    from phoenix_orch.orchestrator.cluster.person import Access  # noqa: PLC0415 - only in a cluster

    return Access(namespace, kubeconfig, context)


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


def probes(text: str | None) -> tuple[str, int] | None:
    """Where to answer; all addresses where only a port is given. Raises Invalid."""
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise Invalid(f"--probes {text}: {port!r} is no port", remedy="for example --probes 8081")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - kubelet asks from outside the pod

"""Which cluster, as whom, in which namespace: a kubeconfig, or the service account of the pod.

In kubectl's order: what is named, `KUBECONFIG` (several files, merged), the pod's service account,
`~/.kube/config`. Certificates, tokens and their rotation are lightkube's; exec plugins are `exec_login.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from lightkube.config.kubeconfig import SERVICE_ACCOUNT, KubeConfig, SingleConfig
from lightkube.config.models import Cluster, User
from lightkube.core.exceptions import ConfigError

from phoenix_orch.kernel.errors import Invalid

DEFAULT_FILE = "~/.kube/config"
_SERVICE_HOST = "KUBERNETES_SERVICE_HOST"
_CLUSTER_FILES = ("certificate_auth",)
_USER_FILES = ("client_cert", "client_key", "token_file")
_T = TypeVar("_T", Cluster, User)


@dataclass(frozen=True)
class Target:
    """One cluster and one user of it."""

    single: SingleConfig
    namespace: str
    """Where objects are looked for when a call names no namespace."""

    @property
    def server(self) -> str:
        return str(self.single.cluster.server)

    def __repr__(self) -> str:
        """Without the user, who has secrets (rule R11)."""
        return f"Target(server={self.server!r}, namespace={self.namespace!r})"


def load(
    kubeconfig: Path | None = None,
    *,
    context: str | None = None,
    namespace: str | None = None,
    environment: Mapping[str, str] = os.environ,
    service_account: Path = Path(SERVICE_ACCOUNT),
) -> Target:
    """Find the cluster. Raises Invalid when there is none, or when what was found cannot be used."""
    try:
        single = _find(kubeconfig, environment, service_account, context)
    except ConfigError as error:
        raise Invalid(str(error), remedy=_REMEDY) from error
    except Exception as error:  # noqa: BLE001 - a file makes the parsers raise anything
        # not `from error`: parsers quote lines, and lines have tokens in them
        named = kubeconfig or environment.get("KUBECONFIG")
        which = f"the kubeconfig {named}" if named else "the kubeconfig"
        raise Invalid(f"{which} cannot be used: {_told(error)}", remedy=_REMEDY) from None
    if single.user is None:
        single = single._replace(user=User())
    return Target(single, namespace or single.namespace)


_REMEDY = "name a kubeconfig and a context in it, or run in a pod with a service account: kubectl config view"


def _find(
    kubeconfig: Path | None, environment: Mapping[str, str], service_account: Path, context: str | None
) -> SingleConfig:
    listed = [Path(part) for part in environment.get("KUBECONFIG", "").split(os.pathsep) if part]
    if kubeconfig is not None:
        config = KubeConfig.from_file(kubeconfig)
    elif listed:
        config = _merged(path for path in listed if path.expanduser().is_file())
    elif environment.get(_SERVICE_HOST) and (service_account / "token").is_file():
        config = _of_the_pod(service_account, environment)
    elif Path(DEFAULT_FILE).expanduser().is_file():
        config = KubeConfig.from_file(DEFAULT_FILE)
    else:
        raise ConfigError("there is no kubeconfig and no service account of a pod")
    found = config.get(context)
    if found is None:
        raise ConfigError("the kubeconfig names no current context")
    return found


def _of_the_pod(folder: Path, environment: Mapping[str, str]) -> KubeConfig:
    """Lightkube's own reads the environment of the process; the token is read anew when it is refused."""
    host, port = environment[_SERVICE_HOST], environment.get("KUBERNETES_SERVICE_PORT", "443")
    host = f"[{host}]" if ":" in host else host
    return KubeConfig.from_one(
        cluster=Cluster(server=f"https://{host}:{port}", certificate_auth=str(folder / "ca.crt")),
        user=User(token_file=str(folder / "token")),
        namespace=(folder / "namespace").read_text("utf-8").strip(),
    )


def _merged(paths: Iterable[Path]) -> KubeConfig:
    """As kubectl merges: who comes first keeps the name. Relative paths are those of their own file."""
    configs = [KubeConfig.from_file(path) for path in paths]
    if not configs:
        raise ConfigError("none of the files named by KUBECONFIG exists")
    merged = KubeConfig(clusters={}, contexts={}, users={})
    for config in reversed(configs):
        folder = (config.fname or Path()).absolute().parent
        merged.clusters.update({n: _absolute(c, _CLUSTER_FILES, folder) for n, c in config.clusters.items()})
        merged.users.update({n: _absolute(u, _USER_FILES, folder) for n, u in config.users.items()})
        merged.contexts.update(config.contexts)
        merged.current_context = config.current_context or merged.current_context
    return merged


def _absolute(found: _T, fields: Iterable[str], folder: Path) -> _T:
    paths: dict[str, Any] = {
        name: str(folder / getattr(found, name)) for name in fields if getattr(found, name)
    }
    return msgspec.structs.replace(found, **paths)


def _told(error: Exception) -> str:
    """What is missing or wrong, without values: they may be secrets."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return "it has not the form of a kubeconfig"

"""Backups of a cluster for a command: those that a phoenix.yaml of an orchestrator in a cluster names.

In a pod of the orchestrator its mounted file is enough; elsewhere the same file, its keys, and a kubeconfig.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from phoenix_orch.kernel.config_file import read
from phoenix_orch.kernel.errors import Invalid

if TYPE_CHECKING:
    from phoenix_orch.orchestrator.backups import Backups
    from phoenix_orch.orchestrator.cluster.access import Access
    from phoenix_orch.orchestrator.layout import Layout


def of_cluster(file: Path) -> bool:
    """Whether the section `backup` of a file is one of a cluster. Raises Invalid, ConfigError."""
    content = read(file).root.content
    _, backup = content.get("backup", (None, None)) if isinstance(content, dict) else (None, None)
    return backup is not None and isinstance(backup.content, dict) and "cluster" in backup.content


def cluster_backups(file: Path, access: Access, layout: Layout, *, by: str) -> Backups:
    """`access`: the namespace is that of Phoenix; None: that of the context, or of the pod.

    Raises Invalid, ConfigError; nothing is asked of the cluster yet.
    """
    from phoenix_orch.kube.config import load as find  # noqa: PLC0415 - half a second, with the others
    from phoenix_orch.orchestrator.backups import Backups  # noqa: PLC0415
    from phoenix_orch.orchestrator.cluster.backing_up import home_in, state_layout  # noqa: PLC0415
    from phoenix_orch.orchestrator.cluster.file import load  # noqa: PLC0415
    from phoenix_orch.orchestrator.state_verifying import in_pod  # noqa: PLC0415

    spec = load(file).backup
    if spec is None:
        raise Invalid(f"{file} has no section backup", remedy="name the phoenix.yaml of the orchestrator")
    target = find(access.kubeconfig, context=access.context, namespace=access.namespace)
    home = home_in(target)(spec)
    return Backups(spec, state_layout() if in_pod() else layout, by=by, home=home)

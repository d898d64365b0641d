"""Backups of a cluster: by any replica of the orchestrator, of what phoenix.yaml says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import Target
from phoenix_orch.orchestrator.backup_home import HERE, Home
from phoenix_orch.orchestrator.cluster.accepting import accepting
from phoenix_orch.orchestrator.cluster.volumes import ClusterVolumes
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.cluster_spec import ClusterBackupSpec
from phoenix_orch.recovery.layout import Scope
from phoenix_orch.recovery.restore import config_apply
from phoenix_orch.recovery.sources.config_cluster import ClusterItems
from phoenix_orch.recovery.sources.config_objects import KINDS, Choice
from phoenix_orch.recovery.spec import BackupSpec
from phoenix_orch.runtime.files import temporary_folder


def home_in(target: Target) -> Callable[[BackupSpec], Home]:
    """Of the cluster and namespace of `target`."""

    def home(spec: BackupSpec) -> Home:
        if not isinstance(spec, ClusterBackupSpec):
            return HERE
        wanted = spec.configuration

        def connect() -> KubeClient:
            return KubeClient(target, component="backup")

        scope = Scope(spec.cluster, target.namespace, "volume")
        return Home(
            cluster=spec.cluster,
            namespace=target.namespace,
            signing_key=Path(spec.signing_key_file),
            configuration=ClusterItems(
                connect,
                wanted.namespaces or (target.namespace,),
                kinds=[resource for resource in KINDS if resource.kind in wanted.kinds],
                choice=Choice(helm_releases=wanted.helm_releases),
            ),
            volumes=ClusterVolumes(connect, scope, spec.claims),
            accept=accepting(lambda: KubeClient(target, component="drill", manager=config_apply.MANAGER)),
        )

    return home


def state_layout() -> Layout:
    """Where a replica keeps what it can make anew from the storage: a pod has no other disk."""
    return Layout(temporary_folder() / "phoenix-state")

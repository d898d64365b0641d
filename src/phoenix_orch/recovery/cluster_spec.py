"""The section `backup` of a phoenix.yaml in a cluster. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from phoenix_orch.recovery.sources.claim_spec import ClaimSpec
from phoenix_orch.recovery.sources.config_objects import KINDS
from phoenix_orch.recovery.spec import BackupSpec
from phoenix_orch.rollout.spec import Model, Name

_KNOWN = {resource.kind: resource for resource in KINDS}


class ConfigurationSpec(Model):
    """Which objects are configuration."""

    namespaces: Annotated[tuple[Name, ...], Field(max_length=100)] = ()
    """Where they are; left out: the namespace of Phoenix. Each needs the Role of `k8s/backup`."""
    kinds: Annotated[tuple[str, ...], Field(max_length=len(KINDS))] = tuple(_KNOWN)
    """Which kinds, like `ConfigMap`; left out: all that Phoenix knows to put back."""
    helm_releases: bool = False
    """Helm's own records of releases, too."""

    @field_validator("kinds")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [kind for kind in value if kind not in _KNOWN]
        if unknown or not value:
            raise ValueError(
                f"{', '.join(unknown) or 'nothing'} is backed up nowhere; one of {', '.join(_KNOWN)}"
            )
        return value


class ClusterBackupSpec(BackupSpec):
    """Backups that the replicas of an orchestrator take for their cluster."""

    cluster: Name
    """What to call the cluster: several may share a storage."""
    signing_key_file: Annotated[str, Field(min_length=1, max_length=4000)]
    """The private key that signs backups, the same for all replicas: a Secret that is mounted."""
    configuration: ConfigurationSpec = ConfigurationSpec()
    """Which objects are backed up as `config`."""
    claims: Annotated[dict[Name, ClaimSpec], Field(max_length=100)] = Field(default_factory=dict)
    """Each PersistentVolumeClaim whose snapshots are backups: `volume/NAME`; of several that have the same
    labels `volume/NAME.CLAIM`."""

    @model_validator(mode="after")
    def _of_no_machine(self) -> Self:
        if self.storage.folder is None and self.storage.s3 is None:
            raise ValueError("in a cluster storage is a bucket, or a folder that all replicas have mounted")
        if self.volumes:
            raise ValueError(
                "volumes are folders of one machine, and a replica of Phoenix has none: write claims, the "
                "PersistentVolumeClaims of the cluster"
            )
        if self.identity_file is None:
            raise ValueError(
                "identityFile is needed: with it a replica verifies, and goes on with what another one wrote"
            )
        return self

    @property
    def volume_names(self) -> tuple[str, ...]:
        return tuple(self.claims)

    @property
    def copy_names(self) -> tuple[str, ...]:
        return tuple(name for name, spec in self.claims.items() if spec.off_cluster)

    def placed(self, base: Path) -> Self:
        """See `BackupSpec.placed`."""
        update: dict[str, Any] = {"signing_key_file": str(base / Path(self.signing_key_file).expanduser())}
        return super().placed(base).model_copy(update=update)

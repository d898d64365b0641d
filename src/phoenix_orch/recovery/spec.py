"""The section `backup` of phoenix.yaml: where backups go, who can open them, how often, how long."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from phoenix_orch.kernel.units import Duration, Ratio, Size
from phoenix_orch.recovery.drill_spec import DrillSpec
from phoenix_orch.recovery.retention import Limits, Policy
from phoenix_orch.recovery.sources.redis_spec import RedisSpec
from phoenix_orch.recovery.sources.volume_spec import VolumeSpec
from phoenix_orch.rollout.spec import Model, Name

AGE_PATTERN = r"^age1[0-9a-z]{58}$|^ssh-(ed25519|rsa) [A-Za-z0-9+/=]+( .*)?$"
KEY_PATTERN = r"^[0-9a-f]{64}$"
BUCKET_PATTERN = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
ENVIRONMENT_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
_Path = Annotated[str, Field(min_length=1, max_length=4000)]
_Variable = Annotated[str, StringConstraints(pattern=ENVIRONMENT_PATTERN, max_length=200)]
_Every = Annotated[Duration, Field(ge=timedelta(minutes=1), le=timedelta(days=31))]


class S3Credentials(Model):
    """Where access key and secret key are; the values themselves stand in no configuration."""

    access_key_variable: _Variable = "AWS_ACCESS_KEY_ID"
    """Environment variable of the access key."""
    secret_key_variable: _Variable = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 - its name
    """Environment variable of the secret key."""
    file: _Path | None = None
    """File of the form of `~/.aws/credentials` to read instead."""
    profile: Annotated[str, Field(min_length=1, max_length=100)] = "default"
    """Which part of the file."""


class S3Storage(Model):
    """A bucket of S3, or of anything that speaks like it."""

    bucket: Annotated[str, StringConstraints(pattern=BUCKET_PATTERN)]
    """It has to be there."""
    endpoint: Annotated[str, Field(pattern=r"^https?://[^/\s]+$", max_length=500)] | None = None
    """Where it answers; left out: that of AWS for the region."""
    region: Annotated[str, Field(min_length=1, max_length=60)] = "us-east-1"
    """Its region."""
    prefix: Annotated[str, Field(pattern=r"^([A-Za-z0-9_=@+-][A-Za-z0-9._=@+-]*/)*$", max_length=200)] = ""
    """Put before every key, with a slash at its end: one bucket for several teams."""
    ca_file: _Path | None = None
    """Certificates of whoever vouches for the endpoint; left out: those of the system."""
    credentials: S3Credentials = S3Credentials()
    """Where the keys are."""
    sse: Literal["AES256", "aws:kms"] | None = None
    """Encryption by the storage, on top of ours: with a key of its own, or with one of KMS. Left out: as
    the bucket has it."""
    kms_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9:/_-]+$", max_length=2048)] | None = None
    """Id, alias or ARN of the key of `aws:kms`; left out: that of the account for S3."""
    lock: Annotated[Duration, Field(ge=timedelta(hours=1), le=timedelta(days=3650))] | None = None
    """Nobody may remove a backup for so long, who wrote it neither (GOVERNANCE): the bucket has Object Lock;
    left out: as the bucket does by itself."""

    @model_validator(mode="after")
    def _key_of_kms(self) -> Self:
        if self.kms_key is not None and self.sse != "aws:kms":
            raise ValueError("kmsKey is for sse: aws:kms")
        return self


class StorageSpec(Model):
    """Where backups are kept: in a folder or in a bucket."""

    folder: _Path | None = None
    """A folder, best on another disk; left out, without s3: `backups` in the data directory."""
    s3: S3Storage | None = None
    """A bucket."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.folder is not None and self.s3 is not None:
            raise ValueError("backups are kept in a folder or in a bucket, not in both")
        return self


class RecipientSpec(Model):
    """Somebody who can open backups."""

    name: Name
    """What to call it."""
    key: Annotated[str, StringConstraints(pattern=AGE_PATTERN, max_length=2000)]
    """The public key: `age1…`, or that of SSH."""
    offline: bool = False
    """Its private key is kept away from every machine that runs Phoenix."""


class RetentionSpec(Model):
    """Which backups are kept; each counts for itself, and what any of them takes stays."""

    hourly: Annotated[int, Field(ge=0, le=1000)] = 24
    """One of each of the last hours that have any."""
    daily: Annotated[int, Field(ge=0, le=1000)] = 7
    """One of each day, in UTC."""
    weekly: Annotated[int, Field(ge=0, le=1000)] = 4
    """One of each week, from Monday."""
    keep_last: Annotated[int, Field(ge=0, le=1000)] = 8
    """The newest so many."""
    most_deletions: Annotated[int, Field(ge=1, le=10_000)] = 10
    """One run removes at most so many, or a quarter of all, whichever is more; else it removes none."""

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        if self.policy.empty:
            raise ValueError("a retention that keeps nothing is none; give at least one count above 0")
        return self

    @property
    def policy(self) -> Policy:
        return Policy(hourly=self.hourly, daily=self.daily, weekly=self.weekly, last=self.keep_last)

    @property
    def limits(self) -> Limits:
        return Limits(deletions=self.most_deletions)


class ScheduleSpec(Model):
    """How often each component is backed up."""

    redis: _Every = timedelta(minutes=15)
    """Data of Redis or Valkey."""
    config: _Every = timedelta(hours=1)
    """Configuration."""
    volume: _Every = timedelta(hours=2)
    """Files of applications."""
    off_cluster: _Every = timedelta(days=1)
    """Copies of snapshots of a cluster, away from its storage."""

    def of(self, component: str) -> timedelta:
        """`component`: its instance does not matter."""
        kind = component.partition("/")[0]
        known: dict[str, timedelta] = {
            "redis": self.redis,
            "config": self.config,
            "volume": self.volume,
            "copy": self.off_cluster,
        }
        return known.get(kind, self.config)


class SpoolSpec(Model):
    """Where a copy of Redis or of a folder waits, sealed, for a storage that is slower than they are."""

    folder: _Path | None = None
    """Left out: below the data directory. What lies there has no name and is gone with the process."""
    most: Size = 2 * 1024**3
    """At most so much, and never more than half of what is free; a copy that is larger makes its source wait
    for the storage from there on. 0: it always waits for it."""


class BackupSpec(Model):
    """Backups of this Phoenix."""

    storage: StorageSpec = StorageSpec()
    """Where they are kept."""
    redis: Annotated[dict[Name, RedisSpec], Field(max_length=100)] = Field(default_factory=dict)
    """Each Redis or Valkey that is backed up, by a name of its own: `redis/NAME`."""
    volumes: Annotated[dict[Name, VolumeSpec], Field(max_length=100)] = Field(default_factory=dict)
    """Each folder with the state of an application that is backed up: `volume/NAME`."""
    recipients: Annotated[tuple[RecipientSpec, ...], Field(min_length=2, max_length=20)]
    """Who can open them: at least two, one of them offline, so that neither a lost machine nor a lost safe
    loses them. `phoenix keys init` makes them."""
    identity_file: _Path | None = None
    """File with the private key of a recipient that is not offline: with it every backup is opened and
    compared once it is stored. Left out: `keys/online.key` in the data directory, where there is one."""
    trusted_keys: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=KEY_PATTERN)], ...], Field(max_length=20)
    ] = ()
    """Public keys of other machines that sign backups in the same storage, from `phoenix backup keys`."""
    schedule: ScheduleSpec = ScheduleSpec()
    """How often."""
    retention: RetentionSpec = RetentionSpec()
    """How long."""
    shrink: Ratio = 0.3
    """A backup that has lost more than this share, against the middle of the eight before, is no good one
    until a person acknowledges it."""
    spool: SpoolSpec = SpoolSpec()
    """For copies of Redis, which keeps in memory what changes until it has given the last byte, and of
    folders, whose application may be at rest until then."""
    compression: Annotated[int, Field(ge=-5, le=19)] = 1
    """Level of zstd."""
    drills: DrillSpec = DrillSpec()
    """Rehearsals of recovery."""
    rehearsal_servers: Annotated[tuple[_Path, ...], Field(max_length=20)] = ()
    """Programs, `redis-server` or `valkey-server`, for copies that Phoenix's own Valkey cannot load: those of
    Redis 7.4 and later. Drills and `phoenix backup verify --level 4` start the first that reads the copy,
    empty and for a moment."""
    ping: Annotated[str, Field(pattern=r"^https?://\S+$", max_length=2000)] | None = None
    """An address that is called (GET) after each backup that was verified and is good: who watches it notices
    when no call comes. `{component}` in it becomes `redis-cache`, so that each has its own watch; without
    that, no call is made while any component has no good backup that is fresh."""

    @model_validator(mode="after")
    def _openable(self) -> Self:
        names = [one.name for one in self.recipients]
        keys = {one.key for one in self.recipients}
        if len(set(names)) != len(names) or len(keys) != len(names):
            raise ValueError("two recipients have the same name or key")
        if all(one.offline for one in self.recipients) or not any(one.offline for one in self.recipients):
            raise ValueError(
                "at least one recipient is offline and one is not: the one opens backups when this machine "
                "is lost, the other verifies them"
            )
        return self

    @property
    def volume_names(self) -> tuple[str, ...]:
        """Instances of `volume`."""
        return tuple(self.volumes)

    @property
    def copy_names(self) -> tuple[str, ...]:
        """Instances of `copy`."""
        return ()

    def placed(self, base: Path) -> Self:
        """With paths that are absolute; relative ones are taken from `base`."""

        def absolute(text: str | None) -> str | None:
            return None if text is None else str(base / Path(text).expanduser())

        storage = self.storage.model_copy(update={"folder": absolute(self.storage.folder)})
        if (s3 := self.storage.s3) is not None:
            credentials = s3.credentials.model_copy(update={"file": absolute(s3.credentials.file)})
            s3 = s3.model_copy(update={"ca_file": absolute(s3.ca_file), "credentials": credentials})
            storage = storage.model_copy(update={"s3": s3})
        redis = {name: one.placed(base) for name, one in self.redis.items()}
        volumes = {name: one.placed(base) for name, one in self.volumes.items()}
        offline = absolute(self.drills.offline_identity_file)
        spool = self.spool.model_copy(update={"folder": absolute(self.spool.folder)})
        drills = self.drills.model_copy(update={"offline_identity_file": offline})
        return self.model_copy(
            update={
                "storage": storage,
                "redis": redis,
                "volumes": volumes,
                "identity_file": absolute(self.identity_file),
                "drills": drills,
                "rehearsal_servers": tuple(str(absolute(one)) for one in self.rehearsal_servers),
                "spool": spool,
            }
        )

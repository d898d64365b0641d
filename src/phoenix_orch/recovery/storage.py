"""The storage that phoenix.yaml names, opened."""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.object_store import BucketStore
from phoenix_orch.recovery.objects import ObjectStore, Upkeep
from phoenix_orch.recovery.s3_location import S3Location
from phoenix_orch.recovery.spec import S3Credentials, S3Storage, StorageSpec

Lock = Callable[[str, datetime], datetime | None]


@dataclass(frozen=True, slots=True)
class Storage:
    """A store and who tidies it up."""

    objects: ObjectStore
    upkeep: Upkeep
    lock: Lock
    """Keeps an object from being removed; until when."""
    where: str
    """In words, the same for the same place."""
    missing: Callable[[], bool] = lambda: False
    """The place itself is not there: a folder that was removed, or whose share is not mounted."""


def opened(spec: StorageSpec, default: Path, env: Mapping[str, str] = os.environ) -> Storage:
    """`default`: the folder where none is named. Connects to nothing yet. Raises Invalid, Terminal."""
    if spec.s3 is not None:
        from phoenix_orch.recovery.bucket_admin import BucketAdmin  # noqa: PLC0415 - boto3: 0.4 s
        from phoenix_orch.recovery.object_locks import ObjectLocks  # noqa: PLC0415

        location = located(spec.s3, env)
        admin = BucketAdmin(location)
        where = f"{location.called}, prefix {location.prefix}" if location.prefix else location.called
        return Storage(BucketStore(location), admin, ObjectLocks(admin, spec.s3.lock).lock, where)
    folder = FolderStore(Path(spec.folder) if spec.folder is not None else default)
    where = f"folder {folder.root.absolute()}"
    return Storage(folder, folder, lambda _key, _now: None, where, lambda: not folder.root.is_dir())


def located(spec: S3Storage, env: Mapping[str, str] = os.environ) -> S3Location:
    """With its credentials. Without any, the machine's role is asked. Raises Invalid."""
    access, secret, token = _credentials(spec.credentials, env)
    return S3Location(
        bucket=spec.bucket,
        region=spec.region,
        endpoint=spec.endpoint or "",
        prefix=spec.prefix,
        ca_file=Path(spec.ca_file) if spec.ca_file is not None else None,
        access_key=access,
        secret_key=secret,
        session_token=token,
        sse=spec.sse or "",
        kms_key=spec.kms_key or "",
    )


def _credentials(spec: S3Credentials, env: Mapping[str, str]) -> tuple[str, str, str]:
    """Access key, secret key, session token."""
    if spec.file is not None:
        return _of_file(Path(spec.file), spec.profile)
    access, secret = env.get(spec.access_key_variable, ""), env.get(spec.secret_key_variable, "")
    if bool(access) != bool(secret):
        missing = spec.secret_key_variable if access else spec.access_key_variable
        raise Invalid(
            f"the environment has one key of the storage of backups, and {missing} is not set",
            remedy=f"set {missing}, or name a file: backup.storage.s3.credentials.file",
        )
    return access, secret, env.get("AWS_SESSION_TOKEN", "") if access else ""


def _of_file(path: Path, profile: str) -> tuple[str, str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        part = parser[profile]
        return (
            part["aws_access_key_id"].strip(),
            part["aws_secret_access_key"].strip(),
            part.get("aws_session_token", "").strip(),
        )
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    except (configparser.Error, UnicodeDecodeError):
        reason = "it is no file of credentials"
    except KeyError as error:
        reason = f"it has no {error.args[0]}"
    raise Invalid(
        f"{path} cannot be used as credentials of the storage: {reason}",
        remedy="write it like ~/.aws/credentials: [default], aws_access_key_id, aws_secret_access_key",
    )

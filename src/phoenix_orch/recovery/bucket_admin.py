"""What a bucket needs besides objects: unfinished uploads, versions, locks. By boto3."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3  # type: ignore[import-untyped]
import botocore.session  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.recovery import s3_errors
from phoenix_orch.recovery.objects import Stat, Unfinished, checked, is_key
from phoenix_orch.recovery.s3_location import S3Location

_NO_LOCK = ("ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration", "NotImplemented")


@dataclass(frozen=True, slots=True)
class BucketState:
    """What a bucket promises."""

    versioned: bool
    locked: bool
    """Objects may be kept from being removed, by anybody, until a time."""
    default_lock: timedelta | None
    """How long each object is kept by default."""


class BucketAdmin:
    """Upkeep of a bucket. Needs rights that writing backups does not."""

    def __init__(self, location: S3Location) -> None:
        self.location = location
        self._client: Any = boto3.session.Session(botocore_session=_session()).client(
            "s3",
            region_name=location.region,
            endpoint_url=location.url,
            aws_access_key_id=location.access_key or None,
            aws_secret_access_key=location.secret_key or None,
            aws_session_token=location.session_token or None,
            verify=str(location.ca_file) if location.ca_file else True,  # True: whatever AWS_CA_BUNDLE says
            config=Config(
                connect_timeout=5,
                read_timeout=30,
                retries={"mode": "standard", "total_max_attempts": 6},
                s3={"addressing_style": "path"},
            ),
        )

    def unfinished(self) -> Iterator[Unfinished]:
        with self._told(""):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.location.bucket, Prefix=self.location.prefix
            )
            for page in pages:
                for upload in page.get("Uploads", ()):
                    yield Unfinished(
                        key=upload["Key"].removeprefix(self.location.prefix),
                        id=upload["UploadId"],
                        begun=upload["Initiated"].astimezone(UTC),
                    )

    def objects(self, prefix: str, *, after: str = "") -> Iterator[Stat]:
        """All whose key begins with `prefix` and comes behind `after`, by key; names that are none are left
        out. For a bucket in which somebody has made such ones: the client for data gives up over them."""
        own = self.location.prefix
        with self._told(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.location.bucket,
                Prefix=own + prefix,
                **({"StartAfter": own + after} if after else {}),
            )
            for page in pages:
                for found in page.get("Contents", ()):
                    key = found["Key"].removeprefix(own)
                    if is_key(key):
                        modified = found["LastModified"].astimezone(UTC)
                        yield Stat(key=key, size=found["Size"], modified=modified, etag=found["ETag"])

    def abort(self, left: Unfinished) -> None:
        with self._told(left.key, ignored=("NoSuchUpload",)):
            self._client.abort_multipart_upload(
                Bucket=self.location.bucket, Key=self.location.prefix + left.key, UploadId=left.id
            )

    def state(self) -> BucketState:
        with self._told(""):
            versioning = self._client.get_bucket_versioning(Bucket=self.location.bucket)
        lock: dict[str, Any] = {}
        with self._told("", ignored=_NO_LOCK):
            lock = self._client.get_object_lock_configuration(Bucket=self.location.bucket)
        configured = lock.get("ObjectLockConfiguration", {})
        default = configured.get("Rule", {}).get("DefaultRetention", {})
        days = default.get("Days", 0) + 365 * default.get("Years", 0)
        return BucketState(
            versioned=versioning.get("Status") == "Enabled",
            locked=configured.get("ObjectLockEnabled") == "Enabled",
            default_lock=timedelta(days=days) if days else None,
        )

    def retain_until(self, key: str, until: datetime, *, forever: bool = False) -> None:
        """Keep this version of the object from being removed until then; later than before, never earlier.

        `forever`: nobody can shorten it (COMPLIANCE); otherwise those with the right to may (GOVERNANCE).
        """
        with self._told(checked(key)):
            self._client.put_object_retention(
                Bucket=self.location.bucket,
                Key=self.location.prefix + key,
                Retention={"Mode": "COMPLIANCE" if forever else "GOVERNANCE", "RetainUntilDate": until},
            )

    @contextlib.contextmanager
    def _told(self, key: str, *, ignored: tuple[str, ...] = ()) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code not in ignored:
                raise self._failed(key, str(error), code) from None
        except BotoCoreError as error:
            raise self._failed(key, str(error), "") from None

    def _failed(self, key: str, text: str, code: str) -> PhoenixError:
        return s3_errors.told(text, self.location.called, key, code="" if code.isdigit() else code)


def _session() -> Any:
    """Without the profile of the environment: where that is not there, nothing would work."""
    return botocore.session.Session(session_vars={"profile": (None, None, None, None)})

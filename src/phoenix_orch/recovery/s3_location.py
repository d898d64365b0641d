"""Where a bucket is and how it is got at. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class S3Location:
    """A bucket of S3, or of anything that speaks like it; addressed by path, which all understand."""

    bucket: str
    region: str = "us-east-1"
    endpoint: str = ""
    """Where it answers, without the bucket; "" for that of AWS in the region. No environment changes it."""
    prefix: str = ""
    """Put before every key; with a slash at its end."""
    ca_file: Path | None = None
    """Certificates of whoever vouches for the endpoint; None: those of the system."""
    access_key: str = ""
    """"" together with `secret_key`: what the machine gives, as a role of the instance or of the pod."""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    sse: str = ""
    """Encryption by the storage on top of ours: "", `AES256` or `aws:kms`."""
    kms_key: str = ""
    """The key of `aws:kms`; "" for the bucket's own."""

    @property
    def url(self) -> str:
        return self.endpoint.rstrip("/") or f"https://s3.{self.region}.amazonaws.com"

    @property
    def called(self) -> str:
        return f"bucket {self.bucket} at {self.url}"

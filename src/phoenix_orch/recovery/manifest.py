"""What is known of one backup: its manifest, which makes it one, and the records that come after it.

A manifest is written last and never again. What is learnt later (that it was verified, is pinned, is to be
removed) stands in records of their own. Pure: models; `signing.py` gives them their bytes.
"""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from phoenix_orch.kernel.config import field_path
from phoenix_orch.recovery.layout import Place, Scope
from phoenix_orch.recovery.signing import Signer, Tampered, Trust, digest, opened, signed

SCHEMA: Literal["phoenix-orch.io/backup/v1"] = "phoenix-orch.io/backup/v1"


class Part(BaseModel):
    """A frozen piece of a record. Keys that it does not know, of a later Phoenix, are left out."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class TriggerKind(StrEnum):
    SCHEDULE = "schedule"
    MANUAL = "manual"
    PRE_RESTORE = "pre-restore"
    """What a restore is about to write over."""
    REKEY = "rekey"


class Trigger(Part):
    """Why it was taken."""

    kind: TriggerKind
    """`pre-restore`: what a restore was about to write over; `rekey`: sealed anew for other recipients."""
    actor: str = ""
    """Who asked for it."""
    reason: str = ""
    """In their words."""
    task: str = ""
    """Id of the task that took it."""


class Times(Part):
    """UTC."""

    slot: AwareDatetime | None = None
    """The moment of the schedule that it stands for."""
    started: AwareDatetime
    """When the run began."""
    consistency_point: AwareDatetime
    """Whose state it holds: what came later is lost when it is restored."""
    finished: AwareDatetime
    """When its data was stored."""
    published: AwareDatetime
    """When this manifest was written, and made it a backup."""
    rpo_seconds: float
    """From the consistency point until it was published."""


class Stream(Part):
    """The data, as it was read and as it is stored."""

    key: str
    """In the bucket, below its prefix."""
    name: str
    """File name of the copy when it is opened."""
    raw_bytes: int = Field(ge=0)
    """Bytes of the content, as it was read and as it is once opened."""
    raw_sha256: str
    """Of these."""
    stored_bytes: int = Field(ge=0)
    """Bytes of the object."""
    stored_sha256: str
    """Of these: compressed and encrypted."""
    codec: str
    """How it was compressed: `zstd`."""
    level: int
    """Of the compression."""
    content_checksum: bool | None = None
    """Its frames end with a checksum of their content; None: not known."""
    encryption: str
    """`age`."""
    recipients: tuple[str, ...]
    """Public keys that it was encrypted to."""
    header_sha256: str = ""
    """Of the header of age, in which the key of the data is wrapped for each recipient; empty: not known."""
    etag: str = ""
    """By the storage, when the data was published; of a folder it says nothing elsewhere."""
    parts: int | None = None
    """In so many pieces it was uploaded; None: at once, or not known."""
    version_id: str = ""
    """In a bucket that keeps versions: the one that was published."""


class Link(Part):
    """Another manifest, and the SHA-256 of its bytes."""

    id: str
    """Of the backup."""
    sha256: str
    """Of its manifest's bytes."""


class Drop(Part):
    """There is much less of something than there was."""

    measure: str
    """`rawBytes`, or a name in `content`."""
    value: float
    """Of this backup."""
    median: float
    """Of the good copies before."""


class Manifest(Part):
    """Everything about one backup."""

    schema_: Literal["phoenix-orch.io/backup/v1"] = Field(default=SCHEMA, alias="schema")
    """Which form this is."""
    id: str
    """Sortable by time; part of its place."""
    cluster: str
    """Whose it is; `local` outside of a cluster."""
    namespace: str
    """In that; `default` outside of a cluster."""
    component: str
    """What is backed up: `config`, `redis/NAME`, `volume/NAME`, `copy/NAME`."""
    kind: str = ""
    """`redis`, `config` or `volume`; empty in older ones: the first part of the component."""
    trigger: Trigger
    """Why it was taken."""
    phoenix: str
    """Version of Phoenix that took it."""
    host: str
    """Name of the machine that did."""
    generation: int
    """Of the lease that it was taken under; higher is later."""
    number: int = Field(default=0, ge=0)
    """How many were published of the component, this one with them; 0: not known."""
    time: Times
    """All of its moments."""
    previous: Link | None = None
    """The backup before, of the same component."""
    parent: Link | None = None
    """The one whose content was sealed anew, for other recipients."""
    stream: Stream
    """The data."""
    source: dict[str, Any] = Field(default_factory=dict)
    """Where it was taken; see below."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """What wrote the content, and its format; see below."""
    replication: dict[str, Any] = Field(default_factory=dict)
    """Where in the stream of a replication it is; see below."""
    content: dict[str, Any] = Field(default_factory=dict)
    """What is in it; see below."""
    measures: tuple[str, ...] = ()
    """Names in `content` that say how much there is."""
    hooks: tuple[dict[str, Any], ...] = ()
    """What was run before and after, and how that ended: `hook`, `when`, `seconds`, `fault`."""
    drops: tuple[Drop, ...] = ()
    """Not empty: it is much smaller than those before, and no good copy until a person says so."""
    open_with: str = ""
    """The shell line that opens the data without Phoenix."""
    retention: tuple[str, ...] = ()
    """Which rules kept it when it was published; what keeps it now `phoenix backup prune --dry-run` tells."""
    lock_until: AwareDatetime | None = None
    """Until then the storage refuses to remove the data."""

    @property
    def scope(self) -> Scope:
        return Scope(self.cluster, self.namespace, self.component)

    @property
    def moment(self) -> datetime:
        """The one that its place and its retention go by."""
        return (self.time.slot or self.time.started).replace(microsecond=0)

    @property
    def place(self) -> Place:
        return Place(self.scope, self.moment, self.id)


class Level(IntEnum):
    """How far a backup was verified."""

    PRESENT = 0
    """The data is there, with its size."""
    STORED = 1
    """The SHA-256 of what is stored holds."""
    OPENED = 2
    """It was decrypted and decompressed, and the SHA-256 of that holds."""
    STRUCTURE = 3
    """What is in it is well-formed, by a tool for that."""
    LOADED = 4
    """It was loaded into a server that was thrown away, and compared."""
    SERVED = 5
    """It was recovered with everything else, and served: what the monthly drill shows."""


class Verification(Part):
    """One look at a backup."""

    backup: str
    """Id of it."""
    manifest: str
    """SHA-256 of the manifest."""
    level: Level
    """Passed: it holds up to here. Failed: this is the one that did not."""
    passed: bool
    """Whether it holds."""
    at: AwareDatetime
    """When it was looked at."""
    by: str
    """Who looked."""
    detail: str = ""
    """What was found, in a line."""
    seconds: float = 0.0
    """That it took."""
    bytes: int = 0
    """Read from the storage."""
    tools: dict[str, str] = Field(default_factory=dict)
    """Versions."""
    found: dict[str, Any] = Field(default_factory=dict)
    """What was counted: keys by database and type, functions, a digest of the content with its algorithm."""


class Pin(Part):
    """A person wants it kept."""

    backup: str
    """Id of it."""
    at: AwareDatetime
    """Since when."""
    by: str
    """Who wants it."""
    reason: str = ""
    """In their words."""


class Acknowledgement(Part):
    """A person says that it is right for this backup to be much smaller than those before."""

    backup: str
    """Id of it."""
    at: AwareDatetime
    """When they said so."""
    by: str
    """Who did."""
    reason: str = ""
    """In their words."""


class Loss(Part):
    """It is gone, nothing says why, and a person knows of it. Of one that is there again it says nothing."""

    backup: str
    manifest: str
    """SHA-256 of the manifest that was there."""
    at: AwareDatetime
    by: str
    reason: str = ""


class Tombstone(Part):
    """It is to be removed, or was. It stays for as long as a manifest follows the one that went."""

    backup: str
    """Id of it."""
    manifest: str
    """SHA-256 of the manifest."""
    key: str
    """Of the manifest."""
    data: str
    """Key of the data."""
    at: AwareDatetime
    """When it was marked; it goes a day later."""
    by: str
    """Who marked it."""
    reason: str = ""
    """Why."""
    outside: dict[str, Any] = Field(default_factory=dict)
    """What of it lies in another place, and goes with it: a snapshot in the storage of a cluster."""


R = TypeVar("R", bound=Part)


def encoded(record: Part, signer: Signer) -> bytes:
    """The record as it is stored."""
    return signed(record.model_dump(mode="json", by_alias=True, exclude_none=True), signer)


def decoded(raw: bytes, model: type[R], trust: Trust, what: str) -> R:
    """Raises Tampered for what is not a whole record with a signature that holds."""
    content = opened(raw, trust, what)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        raise Tampered(
            f"{what} is no {model.__name__.lower()} that this Phoenix can read: "
            f"{field_path(fault['loc']) or 'content'}: {fault['msg']}",
            remedy="use a Phoenix that is at least as new as the one that wrote it",
        ) from None


def read_manifest(raw: bytes, key: str, trust: Trust) -> tuple[Manifest, str]:
    """The manifest at `key`, and the SHA-256 of its bytes. Raises Tampered, also for one of another place."""
    manifest = decoded(raw, Manifest, trust, key)
    place = manifest.place
    if place.manifest != key or not manifest.stream.key.startswith(f"{place.directory}data."):
        raise Tampered(
            f"{key} holds the manifest of another backup, {manifest.id}",
            remedy="use another backup; `phoenix backup list` shows which hold",
        )
    return manifest, digest(raw)

"""Where things are in the bucket. Pure: keys from identities and times, and back.

    v1/<cluster>/<namespace>/<component>/<yyyy>/<mm>/<dd>/<time>-<id>/data.0000.<name>.zst.age
    v1/<cluster>/<namespace>/<component>/<yyyy>/<mm>/<dd>/<time>-<id>/manifest.json
    records/<cluster>/<namespace>/<component>/<id>/{verified-<record>,pin,acknowledged,tombstone,lost}.json
    claims/<cluster>/<namespace>/<component>/<slot>.json
    locks/<cluster>/<namespace>/<component>.json

A component has one or two segments: `redis`, `redis/cache`. Four digits after the data are the attempt: a run
that was thought dead cannot write over what its successor stored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from phoenix_orch.kernel.errors import Invalid

VERSION = "v1"
MANIFEST = "manifest.json"
SUFFIX = ".zst.age"
_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}"
_COMPONENT = re.compile(rf"{_SEGMENT}(/{_SEGMENT})?")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_ID = r"[0-9a-z]{16}"
_TIME = r"[0-9]{8}T[0-9]{6}Z"
_BACKUP = re.compile(
    rf"v1/(?P<cluster>{_SEGMENT})/(?P<namespace>{_SEGMENT})/(?P<component>{_SEGMENT}(?:/{_SEGMENT})?)/"
    rf"(?P<day>[0-9]{{4}}/[0-9]{{2}}/[0-9]{{2}})/(?P<time>{_TIME})-(?P<id>{_ID})/"
    r"(?P<file>manifest\.json|data\.(?P<attempt>[0-9]{4})\.(?P<name>[A-Za-z0-9_][A-Za-z0-9._-]*)\.zst\.age)"
)
_RECORD = re.compile(
    rf"records/(?P<cluster>{_SEGMENT})/(?P<namespace>{_SEGMENT})/"
    rf"(?P<component>{_SEGMENT}(?:/{_SEGMENT})?)/(?P<id>{_ID})/"
    rf"(?P<kind>pin|acknowledged|tombstone|lost|verified-{_ID})\.json"
)


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """Whose backups: retention, chain and lease are per scope."""

    cluster: str
    namespace: str
    component: str

    def __post_init__(self) -> None:
        for text in (self.cluster, self.namespace):
            if not re.fullmatch(_SEGMENT, text):
                raise Invalid(f"{text[:80]!r} is no name of a cluster or namespace", remedy=_ALLOWED)
        if not _COMPONENT.fullmatch(self.component):
            raise Invalid(f"{self.component[:80]!r} is no name of a component", remedy=_ALLOWED)

    @property
    def path(self) -> str:
        return f"{self.cluster}/{self.namespace}/{self.component}"

    @property
    def kind(self) -> str:
        """`redis` of `redis/cache`."""
        return self.component.partition("/")[0]

    @property
    def backups(self) -> str:
        """Prefix of all backups; those of `redis/cache` are below that of `redis`, too."""
        return f"{VERSION}/{self.path}/"

    @property
    def records(self) -> str:
        return f"records/{self.path}/"

    @property
    def claims(self) -> str:
        return f"claims/{self.path}/"

    @property
    def lock(self) -> str:
        return f"locks/{self.path}.json"

    def claim(self, name: str) -> str:
        return f"{self.claims}{name}.json"

    def record(self, backup: str, kind: str) -> str:
        """`kind`: `pin`, `acknowledged`, `tombstone`, `lost`, `verified-<record>`."""
        return f"{self.records}{backup}/{kind}.json"


_ALLOWED = "write letters, digits and ._-, at most 63; a component may have an instance, as redis/cache"


@dataclass(frozen=True, slots=True)
class Place:
    """One backup's directory."""

    scope: Scope
    moment: datetime
    """Slot, or when it was begun; UTC, whole seconds."""
    id: str

    @property
    def directory(self) -> str:
        at = self.moment
        return f"{self.scope.backups}{at:%Y/%m/%d}/{stamp(at)}-{self.id}/"

    @property
    def manifest(self) -> str:
        return f"{self.directory}{MANIFEST}"

    def data(self, attempt: int, name: str) -> str:
        """Raises Invalid for a name that is no file name."""
        if not _NAME.fullmatch(name) or not 0 <= attempt <= 9999:
            raise Invalid(f"{name[:80]!r} is no name of a copy", remedy="letters, digits and ._-")
        return f"{self.directory}data.{attempt:04d}.{name}{SUFFIX}"


@dataclass(frozen=True, slots=True)
class Found:
    """What a key of the bucket stands for."""

    place: Place
    attempt: int | None
    """Of the data; None for a manifest."""
    name: str = ""


@dataclass(frozen=True, slots=True)
class RecordKey:
    scope: Scope
    backup: str
    kind: str
    """Without the record's own id: `verified`."""


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def parse(key: str) -> Found | None:
    """None for what is no part of a backup, or stands where it does not belong."""
    match = _BACKUP.fullmatch(key)
    if match is None:
        return None
    try:
        moment = datetime.strptime(match["time"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    scope = Scope(match["cluster"], match["namespace"], match["component"])
    place = Place(scope, moment, match["id"])
    if not key.startswith(place.directory):
        return None
    attempt = match["attempt"]
    return Found(place, None if attempt is None else int(attempt), match["name"] or "")


def parse_record(key: str) -> RecordKey | None:
    match = _RECORD.fullmatch(key)
    if match is None:
        return None
    scope = Scope(match["cluster"], match["namespace"], match["component"])
    return RecordKey(scope, match["id"], match["kind"].partition("-")[0])

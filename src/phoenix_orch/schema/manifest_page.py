"""The reference of what stands in a storage beside the data: the signed manifest, and records about it."""

from __future__ import annotations

from phoenix_orch.recovery import manifest as records
from phoenix_orch.schema import fields

PATH = "docs/reference/manifest.md"

TITLES = {
    "Manifest": "The manifest",
    "Trigger": "trigger",
    "Times": "time",
    "Link": "previous, parent",
    "Stream": "stream",
    "Drop": "drops[]",
    "Verification": "A look: `verified-<id>.json`",
    "Pin": "A pin: `pin.json`",
    "Acknowledgement": "An acknowledgement: `acknowledged.json`",
    "Tombstone": "A tombstone: `tombstone.json`",
}

INTRODUCTION = """A backup is one object with data and, beside it, one with its manifest, `manifest.json`,
which is written last and never again
([ADR 0051](../adr/0051-a-backup-is-one-object-and-a-manifest.md)). Whatever is learnt later stands in records
of their own, below `records/` in the same storage.

Each is one JSON object in canonical form: keys sorted, no spaces, UTF-8. Moments are UTC, as RFC 3339. Fields
that are `none` are left out. A reader passes over fields that it does not know.

| key | value | |
|---|---|---|
| `signature` | mapping | of whoever took it |
| `signature.algorithm` | `ed25519` | over all other keys, in canonical form |
| `signature.key` | text | public key, hexadecimal: the one that `phoenix backup keys` prints |
| `signature.value` | text | hexadecimal |

`phoenix backup show ID` prints a manifest with what is known of it; nothing in it is secret, and none of it
can be changed without the signature telling. Each names the one before it with its digest, so that one that
is missing is noticed."""

CONTENT = """## What `engine`, `source`, `content` and `replication` say

They differ by the kind of component; what could not be asked is left out.

### redis

| key | |
|---|---|
| `engine.name`, `engine.version` | `redis` or `valkey`, and its version |
| `engine.format` | the first nine bytes of the dump: [which servers read it](redis-versions.md) |
| `engine.modules` | that were loaded |
| `source.address`, `source.role`, `source.mode`, `source.runId` | of the server that gave the copy |
| `source.chosen` | why that one |
| `source.usedMemory`, `source.forkEstimate` | bytes that its data took, and what the copy was to cost |
| `source.settings`, `source.users` | no part of a dump; without secrets |
| `content.keys`, `content.expires`, `content.databases` | before the copy; `content.counted` says how |
| `content.functions` | that were loaded |
| `content.slots` | of a shard: first and last slot of each range |
| `replication.id`, `replication.offset` | where in its stream the copy is |
| `replication.behindBytes`, `replication.silentSeconds` | how far a replica was behind |

### config

| key | |
|---|---|
| `engine.format` | `bundle v2` of Git |
| `content.objects`, `content.kinds` | how many, and of each kind |
| `content.leftOut`, `content.notServed` | by reason; kinds that the cluster does not have |
| `content.commit`, `content.tree`, `content.files` | of the repository |
| `content.changed` | whether anything did since the last one |
| `source.files`, `source.namespaces` | which files of a machine, or which namespaces of a cluster |

### volume, copy

| key | |
|---|---|
| `engine.format` | of the archive |
| `content.entries`, `content.files`, `content.bytes` | how many, and of all files together |
| `content.merkleRoot`, `content.merkleAlgorithm` | over the list of files with their digests |
| `content.fuzzy`, `content.fuzzyFirst` | files that changed while they were read, and the first of them |
| `content.leftOut` | sockets, devices and their like, by kind |
| `content.checks` | what was found by the consistency checks |
| `source.folder`, `source.copiedBy`, `source.host` | of `volume`: where, and how it was held still |

A snapshot of a cluster holds no files here: `engine.driver`, `engine.class`, `content.snapshotHandle`,
`content.restoreSize`, `content.createdByStorage`; `source.namespace`, `source.claim`, `source.snapshot`,
`source.content`, `source.volumeMode`."""

RECORDS = """## Records

`records/<cluster>/<namespace>/<component>/<backup>/` holds what is known of a backup, each signed like a
manifest and made once."""


def page(generated: str) -> str:
    """The whole page; `generated` is the mark of pages that are not written by hand."""
    parts = [
        "# The manifest of a backup",
        generated,
        INTRODUCTION,
        *fields.sections(records.Manifest, TITLES),
        CONTENT,
        RECORDS,
        *(
            fields.section(model, TITLES)
            for model in (
                records.Verification,
                records.Pin,
                records.Acknowledgement,
                records.Tombstone,
            )
        ),
    ]
    return "\n\n".join(parts) + "\n"

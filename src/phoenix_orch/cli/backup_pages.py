"""How backups are shown to a person. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from phoenix_orch.cli.output import columns
from phoenix_orch.kernel.units import format_duration
from phoenix_orch.recovery.catalog import Backup, View
from phoenix_orch.recovery.manifest import Level
from phoenix_orch.recovery.prune import Plan, Pruned

_LEVELS = {
    Level.PRESENT: "there",
    Level.STORED: "stored",
    Level.OPENED: "opens",
    Level.STRUCTURE: "well-formed",
    Level.LOADED: "loaded",
    Level.SERVED: "served",
}


def standing(backup: Backup) -> str:
    """In a word or two, whether it counts."""
    if backup.tombstone is not None:
        return "to be removed"
    if not backup.present:
        return "DATA GONE"
    if backup.failed is not None:
        return "DAMAGED"
    if backup.shrunk:
        return "SHRUNK"
    if backup.future:
        return "OF THE FUTURE"
    if not backup.good:
        return "not verified"
    return "before a restore" if backup.before_restore else "good"


def level(backup: Backup) -> str:
    found = backup.level
    return "" if found is None else f"L{found.value} {_LEVELS[found]}"


def size(count: int) -> str:
    """Bytes for a person: 12.3 MB."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def age(moment: datetime, now: datetime) -> str:
    """How long ago: the two largest units."""
    seconds = max(0, int((now - moment).total_seconds()))
    unit = 1 if seconds < 3600 else 60 if seconds < 86_400 else 3600
    return format_duration(timedelta(seconds=seconds // unit * unit))


def listing(views: Sequence[View], now: datetime) -> str:
    """All backups, newest first, and under them what is wrong."""
    backups = [backup for view in views for backup in view.backups]
    rows = [
        (
            backup.id,
            backup.manifest.component,
            f"{backup.at:%Y-%m-%dT%H:%M:%SZ}",
            age(backup.manifest.time.consistency_point, now),
            f"{backup.manifest.time.rpo_seconds:.0f}s",
            size(backup.manifest.stream.raw_bytes),
            size(backup.manifest.stream.stored_bytes),
            level(backup),
            standing(backup) + (", pinned" if backup.pin is not None else ""),
        )
        for backup in backups
    ]
    header = ("ID", "COMPONENT", "SLOT", "AGE", "RPO", "RAW", "STORED", "LEVEL", "STATUS")
    lines = [columns(header, rows, empty="there are no backups; `phoenix backup run COMPONENT` takes one")]
    faults = [fault for view in views for fault in view.faults]
    lines += [f"FAULT: {fault.message}" for fault in faults]
    lines += [f"  what to do: {remedy}" for remedy in dict.fromkeys(one.remedy for one in faults) if remedy]
    return "\n".join(lines)


def summary(backup: Backup) -> dict[str, Any]:
    """What programs get of one backup in a list."""
    manifest, found = backup.manifest, backup.level
    return {
        "id": backup.id,
        "component": manifest.component,
        "at": backup.at.isoformat(),
        "consistencyPoint": manifest.time.consistency_point.isoformat(),
        "rpoSeconds": manifest.time.rpo_seconds,
        "rawBytes": manifest.stream.raw_bytes,
        "storedBytes": manifest.stream.stored_bytes,
        "level": None if found is None else found.value,
        "good": backup.good,
        "status": standing(backup),
        "pinned": backup.pin is not None,
    }


def detail(backup: Backup) -> dict[str, Any]:
    """Everything about one backup, for programs."""

    def plain(record: Any) -> Any:
        return None if record is None else record.model_dump(mode="json", by_alias=True)

    return {
        **summary(backup),
        "manifest": plain(backup.manifest),
        "manifestSha256": backup.sha256,
        "verifications": [plain(look) for look in backup.verifications],
        "pin": plain(backup.pin),
        "acknowledged": plain(backup.acknowledged),
        "tombstone": plain(backup.tombstone),
    }


def said(facts: Mapping[str, Any]) -> str:
    """In one line: `commit f5ba31, kinds (File 3), changed yes`; what is empty is left out."""
    return ", ".join(f"{name} {_word(value)}" for name, value in sorted(facts.items()) if not _empty(value))


def _empty(value: Any) -> bool:
    return value is None or value in ("", {}, [], ())


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return f"({said(value)})"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_word, value))})"
    return str(value)


def page(backup: Backup, now: datetime) -> str:
    """Everything about one backup, for a person."""
    manifest = backup.manifest
    time, stream = manifest.time, manifest.stream
    rows = [
        ("Backup", f"{backup.id} of {manifest.component} ({manifest.cluster}/{manifest.namespace})"),
        ("Status", standing(backup)),
        ("Level", level(backup) or "not looked at"),
        ("State of", f"{time.consistency_point:%Y-%m-%dT%H:%M:%SZ}, {age(time.consistency_point, now)} ago"),
        ("Published", f"{time.published:%Y-%m-%dT%H:%M:%SZ}, RPO {time.rpo_seconds:.1f}s"),
        ("Taken by", f"{manifest.trigger.kind.value}, {manifest.trigger.actor or 'phoenix'}"),
        ("Size", f"{size(stream.raw_bytes)}, {size(stream.stored_bytes)} stored"),
        ("Content", said(manifest.content)),
        ("Engine", said(manifest.engine)),
        ("SHA-256", stream.raw_sha256),
        ("Stored at", stream.key),
        ("Follows", manifest.previous.id if manifest.previous is not None else "nothing"),
    ]
    if backup.pin is not None:
        rows.append(("Pinned", f"by {backup.pin.by}: {backup.pin.reason}"))
    rows += [
        ("Shrunk", f"{drop.measure} is {drop.value:g}, and was {drop.median:g}") for drop in manifest.drops
    ]
    for look in backup.verifications:
        word = "holds" if look.passed else "FAILED"
        rows.append((f"{look.at:%m-%d %H:%M}", f"level {look.level.value} {word}: {look.detail}"))
    lines = [f"{name:<12}{value}" for name, value in rows if value]
    return "\n".join([*lines, "", "Open it without Phoenix:", f"  {manifest.open_with}"])


def explained(plan: Plan, done: Pruned, *, dry_run: bool) -> str:
    """Each keep and delete with its reasons."""
    rows = [
        (
            "keep" if one.keep else "remove",
            one.id,
            f"{one.at:%Y-%m-%dT%H:%M:%SZ}",
            "; ".join(one.reasons),
        )
        for one in plan.decisions
    ]
    lines = [f"{plan.scope.component}:"]
    lines.append(columns(("", "ID", "SLOT", "WHY"), rows, empty="there are no backups", indent=2))
    if plan.stop:
        lines.append(f"  nothing is removed: {plan.stop}")
        return "\n".join(lines)
    would = "would be " if dry_run else ""
    lines.append(
        f"  {len(done.marked)} {would}marked, {len(done.removed)} {would}removed after their day of grace, "
        f"{len(done.swept)} left-overs {would}swept"
    )
    if done.waiting:
        lines.append(f"  {len(done.waiting)} may go, and lie in a cluster that is not reached from here")
    return "\n".join(lines)


def plan_data(plan: Plan, done: Pruned) -> dict[str, Any]:
    return {
        "component": plan.scope.component,
        "stopped": plan.stop,
        "decisions": [
            {"id": one.id, "at": one.at.isoformat(), "keep": one.keep, "reasons": list(one.reasons)}
            for one in plan.decisions
        ],
        "marked": list(done.marked),
        "removed": list(done.removed),
        "swept": list(done.swept),
        "waiting": list(done.waiting),
    }

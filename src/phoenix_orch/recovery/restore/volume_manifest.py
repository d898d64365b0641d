"""`backup/volume-restore.yaml`: what `kubectl apply` makes of a snapshot, as the guide has it. Pure.

Content and snapshot that lead to the storage's own snapshot, a new claim with its data, and a Job that looks
at it with `verify-state`. Nothing that is used is changed: the claim is a new one, and is put in the place of
the old one afterwards (docs/runbooks/state-recovery.md).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from phoenix_orch.kube.resources import Object
from phoenix_orch.recovery.consistency_spec import FileCheck
from phoenix_orch.recovery.sources.claim_spec import StateCheck
from phoenix_orch.recovery.sources.snapshot_plan import (
    CLAIMS,
    CONTENTS,
    OURS,
    SNAPSHOTS,
    Taken,
    claim_from,
    statically,
)

MOUNT = "/state"


def objects(
    one: Taken, *, namespace: str, suffix: str, image: str, command: Sequence[str] = (), folder: str = ""
) -> list[Object]:
    """In the order in which they have to come. `suffix`: the backup's id, by which all of them are named;
    `folder`: of the state within the volume."""
    content, snapshot = statically(one, namespace, suffix)
    name = f"{one.claim}-restore-{suffix}"
    claim = claim_from(one, snapshot["metadata"]["name"], name, namespace, suffix)
    words = list(command) or ["/usr/local/bin/verify-state", "--data-dir", f"{MOUNT}/{folder}".rstrip("/")]
    typed = ((CONTENTS, content), (SNAPSHOTS, snapshot), (CLAIMS, claim))
    return [
        *({"apiVersion": kind.api_version, "kind": kind.kind, **body} for kind, body in typed),
        job(name, namespace, suffix, image, words),
    ]


def words_of(check: StateCheck, checks: Sequence[FileCheck]) -> list[str]:
    """What a Job runs, to see whether a volume holds what it should."""
    if check.command:
        return list(check.command)
    told = [one.model_dump(mode="json", by_alias=True, exclude_defaults=True) for one in checks]
    folder = f"{MOUNT}/{check.folder}".rstrip("/")
    return ["/usr/local/bin/verify-state", "--folder", folder, "--checks", json.dumps(told)]


def job_of(claim: str, namespace: str, suffix: str, check: StateCheck, checks: Sequence[FileCheck]) -> Object:
    """The Job that a StateCheck asks for. It ends in its time, and its pod says why it failed."""
    made = job(claim, namespace, suffix, check.image, words_of(check, checks))
    made["spec"]["activeDeadlineSeconds"] = int(check.timeout.total_seconds())
    pod = made["spec"]["template"]["spec"]
    pod["securityContext"] |= {"runAsUser": check.user, "runAsGroup": check.user, "fsGroup": check.user}
    pod["containers"][0]["terminationMessagePolicy"] = "FallbackToLogsOnError"
    return made


def job(claim: str, namespace: str, suffix: str, image: str, words: Sequence[str]) -> Object:
    """A Job that looks at a claim once, and changes nothing of it."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"verify-{suffix}", "namespace": namespace, "labels": {OURS: suffix}},
        "spec": {
            "backoffLimit": 0,
            "template": {
                "metadata": {"labels": {OURS: suffix}},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 65532,
                        "runAsGroup": 65532,
                        "fsGroup": 65532,
                        "fsGroupChangePolicy": "OnRootMismatch",
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [
                        {
                            "name": "verify-state",
                            "image": image,
                            "command": list(words),
                            "volumeMounts": [
                                {"name": "state", "mountPath": MOUNT, "readOnly": True},
                                {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108 - of the pod alone
                            ],
                            "securityContext": {
                                "allowPrivilegeEscalation": False,
                                "readOnlyRootFilesystem": True,
                                "capabilities": {"drop": ["ALL"]},
                            },
                        }
                    ],
                    "volumes": [
                        {"name": "state", "persistentVolumeClaim": {"claimName": claim}},
                        {"name": "scratch", "emptyDir": {}},
                    ],
                },
            },
        },
    }


def rendered(made: Sequence[Object]) -> str:
    """As a file: JSON documents, which are YAML."""
    return "\n---\n".join(json.dumps(one, indent=2) for one in made) + "\n"

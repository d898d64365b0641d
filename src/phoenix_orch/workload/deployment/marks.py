"""Names of the labels and annotations that Phoenix writes and reads on objects of Kubernetes."""

from __future__ import annotations

GROUP = "phoenix-orch.io"

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "phoenix-orchestrator"
"""Value of `MANAGED_BY` on objects that Phoenix made: only those are deleted."""

ROLLOUT = f"{GROUP}/rollout"
"""Label on what Phoenix made: the name of the Rollout."""
VARIANT = f"{GROUP}/variant"
"""Label on the pods of a canary that Phoenix made."""

CLAIM = f"{GROUP}/claimed-by"
"""Annotation of stable: the uid of the one Rollout that may release on it."""
CLAIMANT = f"{GROUP}/claimed-by-name"
"""Annotation of stable: the name of that Rollout, for people."""
FULL_SIZE = f"{GROUP}/full-size"
"""Annotation of the canary: `<pods>/<revision>`, the pods of stable when the release of it began."""

REVISION = f"{GROUP}/revision"
"""Annotation of a pod template: the revision that was promoted with it. Annotation of stable: the revision
that it ran when it was claimed; the template is left alone, so that no pod is replaced for it."""
TEMPLATE = f"{GROUP}/template"
"""Annotation beside `REVISION`: the hash of the template that it was said of."""

SELECTS_BOTH = f"{GROUP}/selects-both"
"""Annotation of a Service that may select stable and canary pods alike, since it carries no traffic."""

CHANGE_CAUSE = "kubernetes.io/change-cause"
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
POD_TEMPLATE_HASH = "pod-template-hash"
NUMBER = "deployment.kubernetes.io/revision"
NUMBERS_BEFORE = "deployment.kubernetes.io/revision-history"


def is_ours(key: str) -> bool:
    """A label or annotation in Phoenix's own namespace."""
    prefix = key.partition("/")[0]
    return prefix == GROUP or prefix.endswith(f".{GROUP}")

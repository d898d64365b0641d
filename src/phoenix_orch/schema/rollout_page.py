"""The reference page of the custom resource `Rollout`, from its models."""

from __future__ import annotations

from importlib.resources import files

from phoenix_orch.rollout import crd
from phoenix_orch.rollout.conditions import Condition
from phoenix_orch.rollout.kubernetes_spec import KubernetesRolloutSpec
from phoenix_orch.rollout.kubernetes_status import KubernetesStatus, VerdictSummary, Wanted
from phoenix_orch.rollout.spec import MOST
from phoenix_orch.schema import fields
from phoenix_orch.schema.titles import RESOURCE

PATH = "docs/reference/rollout-resource.md"

INTRODUCTION = f"""`phoenix crd | kubectl apply --server-side -f -` puts the definition into a cluster; it is
also `{crd.PATH}`. Short name `phro`, categories `all` and `phoenix`; no scale subresource.
[ADR 0016](../adr/0016-the-rollout-resource.md) says why it is as it is.

Durations are written `100ms`, `30s`, `10m`, `1h30m`: each unit once, the largest first. Shares are written
`0.1%`, with their sign. Sizes are bytes or `512Mi`, `1Gi`, `100M`. A list has at most {MOST} entries. The API
server refuses what breaks a rule of this page and names the field; unknown keys are refused by `kubectl`, and
by the API server where `fieldValidation=Strict` is asked for, and dropped with a warning otherwise.

Defaults are written into the object, so it shows what counts. Those of `spec.policy.statistical` are not: the
version of Phoenix that judges brings its own, which are the ones named here.

Of several appliers each may own an entry, or a key of an entry, of `phases`, `checks` and the other lists of
named entries (server-side apply)."""

WAITING = """## Columns and conditions

`kubectl get rollouts` shows state, phase, weight, the weight seen on the data plane, the last verdict, the
revisions and the age; `-o wide` the reason, too.

| condition | True | False | Unknown |
|---|---|---|---|
| `Progressing` | a release, a bake or a rollback is on its way | it rests, or waits for a \
person (`Paused`) | |
| `Healthy` | what serves is as it should be | a bad verdict, a rollback on its way, a held release, or a \
verification that failed | the first revision comes up, or there is no evidence |
| `Promoted` | the last release is through, its bake too | it is not, or not yet | nothing was ever released |
| `RolledBack` | the last release was taken back and stays latched | it was not, or not yet | |
| `Stalled` | somebody has to change something first, as the message says | nothing is in the way | |

```console
$ kubectl wait --for=condition=Promoted rollout/master-orchestrator -n phoenix-orch --timeout=2h
```

A condition tells of the last release that Phoenix has seen. A script that has just applied a new version
waits first until `.status.canary` is set: `kubectl wait --for=jsonpath='{.status.canary}' rollout/NAME`."""


def page(generated: str) -> str:
    """The whole page; `generated` is the mark of pages that are not written by hand."""
    parts = [
        "# The Rollout resource",
        generated,
        INTRODUCTION,
        f"```yaml\n{example()}```",
        *fields.sections(KubernetesRolloutSpec, RESOURCE),
        WAITING,
        *(fields.section(model, RESOURCE) for model in (KubernetesStatus, VerdictSummary, Condition, Wanted)),
    ]
    return "\n\n".join(parts) + "\n"


def example() -> str:
    """A Rollout with a little of everything."""
    return files("phoenix_orch.schema").joinpath("rollout.yaml").read_text(encoding="utf-8")

"""The main Ingresses of one route, each with the canary Ingress that carries its weight. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.kube.resources import Object
from phoenix_orch.traffic import ingress_plan as plan
from phoenix_orch.traffic import several
from phoenix_orch.traffic.ingress_plan import IngressRecord
from phoenix_orch.traffic.kube_record import share_of_canary_service
from phoenix_orch.traffic.kube_spec import IngressTraffic
from phoenix_orch.traffic.router import TrafficState


@dataclass(frozen=True, slots=True)
class Part:
    """One of them as it stands."""

    name: str
    """Of the canary Ingress."""
    ingress: str
    """Of the main one; empty: not known."""
    carrier: Object | None = None
    """The canary Ingress; None: it does not exist."""
    main: Object | None = None
    """None: it does not exist, or was not asked for."""
    record: IngressRecord | None = None

    @property
    def share(self) -> int:
        """What the canary's Service gets of its requests, in per cent."""
        return plan.live_share(self.carrier) if self.carrier is not None else 0


@dataclass(frozen=True, slots=True)
class Write:
    """What one part has to become."""

    part: Part
    record: IngressRecord
    expected: plan.Wanted
    raises: bool
    """Its canary gets more than it has."""


def led(parts: Iterable[Part]) -> list[Part]:
    """The one that was written last first; otherwise in their order."""
    return sorted(parts, key=lambda part: -_version(part.record))


def _version(record: IngressRecord | None) -> int:
    return record.state.version if record is not None else 0


def differences(part: Part, lead: IngressRecord, *, alone: bool) -> tuple[str, ...]:
    """How a part differs from what was written last, in words."""
    if part.carrier is None:
        return () if part.main is None else (f"Ingress {part.name!r} does not exist",)
    if part.record is None or not several.same(part.record.state, lead.state):
        return (f"Ingress {part.name!r} does not carry what was written last",)
    record = part.record.model_copy(update={"state": lead.state})
    told = plan.differences(part.carrier, plan.wanted(part.main, part.carrier, record))
    return told if alone else tuple(f"Ingress {part.name!r}: {one}" for one in told)


def write_of(
    part: Part,
    spec: IngressTraffic,
    state: TrafficState,
    *,
    known: IngressRecord | None,
    left: tuple[str, ...],
    strict: bool,
) -> Write | None:
    """How a part follows `state`. None: neither Ingress is there, and nothing is lost by that.

    `known`: the record of the lead. `left`: as it stands in records. `strict`: more weight is wanted, or
    nothing was steered before. Raises NotFound where the main Ingress would be needed, and Invalid.
    """
    if part.main is not None:
        canary = plan.canary_service(spec, plan.stable_service(part.main, spec))
    elif known is None or strict:
        raise no_main(part.ingress or spec.ingress)
    elif part.carrier is None:
        return None
    else:
        canary = (part.record or known).canary_service
    if part.record is not None:
        update = {"state": state, "spec": spec, "canary_service": canary, "left": left}
        record = part.record.model_copy(update=update)
    else:
        record = plan.adopted(state, spec, canary, part.carrier).model_copy(update={"left": left})
    expected = plan.wanted(part.main, part.carrier, record)
    return Write(part, record, expected, share_of_canary_service(state, canary) > part.share)


def renewed(part: Part, carrier: Object | None, record: IngressRecord | None) -> Part:
    """The part with its canary Ingress as it is now."""
    return replace(part, carrier=carrier, record=record)


def no_main(name: str) -> NotFound:
    return NotFound(f"Ingress {name!r} does not exist", remedy="make it, or name another one")

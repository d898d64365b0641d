"""Every move a rollout can make, with its reason. The diagram in the reference is drawn from this."""

from __future__ import annotations

from collections.abc import Mapping

from phoenix_orch.rollout.status import State

TRANSITIONS: Mapping[State, Mapping[State, str]] = {
    State.INITIALIZING: {State.IDLE: "the first revision serves"},
    State.IDLE: {State.STARTING: "a new revision is wanted"},
    State.PROMOTED: {State.STARTING: "a new revision is wanted"},
    State.ROLLED_BACK: {
        State.STARTING: "retry, or a new revision is wanted",
        State.IDLE: "stable is wanted again",
    },
    State.STARTING: {
        State.PROGRESSING: "the canary is ready",
        State.PROMOTING: "a return to an earlier revision, or promote --full",
        State.PAUSED: "pause",
        State.CANCELLING: "stable is wanted again",
        State.ROLLING_BACK: "abort, deadline or an instant event",
    },
    State.PROGRESSING: {
        State.PROMOTING: "the last step is proven, or promote --full",
        State.PAUSED: "pause, a freeze by policy, or a hold that lasted too long",
        State.STARTING: "another revision is wanted; weight 0 first",
        State.CANCELLING: "stable is wanted again",
        State.ROLLING_BACK: "a rollback verdict, abort, deadline or an instant event",
    },
    State.PAUSED: {
        State.STARTING: "resume before the canary was ready, or another revision is wanted",
        State.PROGRESSING: "resume",
        State.PROMOTING: "promote --full",
        State.CANCELLING: "stable is wanted again",
        State.ROLLING_BACK: "a rollback verdict, abort or an instant event",
    },
    State.PROMOTING: {
        State.BAKING: "the new revision is stable",
        State.PAUSED: "a freeze by policy",
        State.STARTING: "another revision is wanted; weight 0 first",
        State.CANCELLING: "stable is wanted again",
        State.ROLLING_BACK: "a rollback verdict, abort, deadline or an instant event",
    },
    State.BAKING: {
        State.PROMOTED: "the bake is over, or promote --end-bake",
        State.STARTING: "another revision is wanted",
        State.ROLLING_BACK: "a rollback verdict, abort, a failed verification or an instant event",
    },
    State.ROLLING_BACK: {
        State.ROLLED_BACK: "weight 0 was seen, the canary left, stable was verified",
        State.PROMOTED: "the revision before is latched too; the newer one goes on serving",
    },
    State.CANCELLING: {
        State.IDLE: "weight 0 was seen and the canary left",
        State.STARTING: "another revision is wanted",
    },
}

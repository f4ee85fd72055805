"""What may become of a rollout, and when: pure functions from a rollout to a change of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from api.errors import Conflict, InvalidOption
from api.rollouts.types import ON_TRIAL, Rollout, Status


@dataclass(frozen=True)
class Change:
    """New values of some of a rollout's columns, and the event that tells of it."""

    values: Mapping[str, Any]
    kind: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    promotes: bool = False
    begins_step: bool = False


def prepared(rollout: Rollout) -> Change:
    """The version is loaded and warm: it may get traffic."""
    _must_be(rollout, {"preparing"}, "start")
    weight = rollout.plan.steps[0] if rollout.plan.strategy == "canary" else 0
    return Change(
        {"status": "running", "weight": weight}, "started", {"weight": weight}, begins_step=True
    )


def next_step(rollout: Rollout) -> Change:
    """A healthy canary gets more traffic."""
    _must_be(rollout, {"running"}, "walk on")
    if rollout.is_last_step:
        raise Conflict("The rollout has no further step", id=rollout.id)
    step = rollout.step + 1
    weight = rollout.plan.steps[step]
    return Change(
        {"step": step, "weight": weight}, "step", {"step": step, "weight": weight}, begins_step=True
    )


def set_weight(rollout: Rollout, weight: int) -> Change:
    """
    Raises:
        InvalidOption: only a canary has a weight.
    """
    _must_be(rollout, ON_TRIAL, "change its weight")
    if rollout.plan.strategy != "canary":
        raise InvalidOption("Only a canary has a weight", strategy=rollout.plan.strategy)
    return Change({"weight": weight}, "weight", {"weight": weight})


def pause(rollout: Rollout) -> Change:
    """Keep the weight, walk no further; the gates still hold."""
    _must_be(rollout, {"running"}, "pause")
    return Change({"status": "paused"}, "paused")


def resume(rollout: Rollout) -> Change:
    _must_be(rollout, {"paused"}, "resume")
    return Change({"status": "running"}, "resumed")


def promote(rollout: Rollout, *, by: str) -> Change:
    """The version on trial becomes the stable one."""
    _must_be(rollout, ON_TRIAL, "promote")
    return Change({"status": "promoted", "weight": 100}, "promoted", {"by": by}, promotes=True)


def roll_back(rollout: Rollout, *, gate: str, reason: str) -> Change:
    """All traffic goes to the stable version again."""
    _must_be(rollout, {"preparing", *ON_TRIAL}, "roll back")
    return Change(
        {"status": "rolled_back", "weight": 0, "reason": reason},
        "rolled_back",
        {"gate": gate, "reason": reason},
    )


def fail(rollout: Rollout, *, gate: str, reason: str) -> Change:
    """The version never got traffic."""
    _must_be(rollout, {"preparing"}, "fail")
    return Change(
        {"status": "failed", "weight": 0, "reason": reason},
        "failed",
        {"gate": gate, "reason": reason},
    )


def _must_be(rollout: Rollout, wanted: set[Status] | frozenset[Status], what: str) -> None:
    if rollout.status not in wanted:
        raise Conflict(
            f"A rollout that is {rollout.status.replace('_', ' ')} can't {what}",
            id=rollout.id,
            status=rollout.status,
        )

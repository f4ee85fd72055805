"""The calls about models and their versions, as data."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from voice_analytics_client.requests import Request, json_as
from voice_analytics_client.rollout_answers import (
    Gates,
    ModelList,
    Rollout,
    RolloutDetails,
    RolloutList,
    Strategy,
)
from voice_analytics_client.routes import path_part


class Trial(TypedDict, total=False):
    """How a version comes into service; what is left out is the service's choice.

    `weight` is one share of traffic in percent, `steps` several one after the other, at least
    `step_seconds` each; `auto_promote` lets the last step end in the promotion.
    """

    strategy: Strategy
    weight: int
    steps: list[int]
    step_seconds: float
    gates: Gates
    auto_promote: bool


def list_models() -> Request[ModelList]:
    return Request("GET", "/models", json_as(ModelList))


def start_rollout(model: str, version: str, trial: Trial) -> Request[Rollout]:
    """Not repeatable: a second one is refused while the first is under way."""
    return Request(
        "POST",
        f"/models/{path_part(model)}/rollouts",
        json_as(Rollout),
        body={"version": version, **trial},
        is_repeatable=False,
    )


def list_rollouts(model: str) -> Request[RolloutList]:
    return Request("GET", f"/models/{path_part(model)}/rollouts", json_as(RolloutList))


def get_rollout(model: str, rollout_id: int) -> Request[RolloutDetails]:
    return Request("GET", _path(model, rollout_id), json_as(RolloutDetails))


def change_rollout(
    model: str,
    rollout_id: int,
    revision: int | None,
    *,
    status: Literal["paused", "running"] | None = None,
    weight: int | None = None,
) -> Request[Rollout]:
    return Request(
        "PATCH",
        _path(model, rollout_id),
        json_as(Rollout),
        body=_given(status=status, weight=weight, revision=revision),
        is_repeatable=False,
    )


def decide_rollout(
    model: str, rollout_id: int, decision: Literal["promote", "rollback"], revision: int | None
) -> Request[Rollout]:
    """Not repeatable: after a rollback that was carried out, a second would be another decision."""
    return Request(
        "POST",
        f"{_path(model, rollout_id)}/{decision}",
        json_as(Rollout),
        body=_given(revision=revision),
        is_repeatable=False,
    )


def delete_rollout(model: str, rollout_id: int) -> Request[Rollout]:
    path = _path(model, rollout_id)
    return Request("DELETE", path, json_as(Rollout), is_repeatable=False)


def _path(model: str, rollout_id: int) -> str:
    return f"/models/{path_part(model)}/rollouts/{rollout_id}"


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}

"""The parts of the blocking SDK about models: `client.models`, `client.rollouts`."""

from __future__ import annotations

from typing_extensions import Unpack

from voice_analytics_client import rollout_routes
from voice_analytics_client.rollout_answers import Model, Rollout, RolloutDetails
from voice_analytics_client.rollout_routes import Trial
from voice_analytics_client.transports import BlockingTransport


class Models:
    """Which models serve."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport

    def list(self) -> tuple[Model, ...]:
        """Each model: the version that serves, since when, and those that could."""
        return self._transport.call(rollout_routes.list_models()).items


class Rollouts:
    """Versions on their way into service. `revision` guards against another operator's change."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport

    def start(self, model: str, version: str, **trial: Unpack[Trial]) -> Rollout:
        """Begin a rollout: a shadow, a canary (the service's default), or blue_green."""
        return self._transport.call(rollout_routes.start_rollout(model, version, trial))

    def list(self, model: str) -> tuple[Rollout, ...]:
        """A model's rollouts, newest first."""
        return self._transport.call(rollout_routes.list_rollouts(model)).items

    def get(self, model: str, rollout_id: int) -> RolloutDetails:
        """One rollout with its history and figures."""
        return self._transport.call(rollout_routes.get_rollout(model, rollout_id))

    def pause(self, model: str, rollout_id: int, *, revision: int | None = None) -> Rollout:
        """Let everything be answered by the stable version for now."""
        return self._transport.call(
            rollout_routes.change_rollout(model, rollout_id, revision, status="paused")
        )

    def resume(self, model: str, rollout_id: int, *, revision: int | None = None) -> Rollout:
        """Go on with a rollout that was paused."""
        return self._transport.call(
            rollout_routes.change_rollout(model, rollout_id, revision, status="running")
        )

    def set_weight(
        self, model: str, rollout_id: int, weight: int, *, revision: int | None = None
    ) -> Rollout:
        """Change a canary's share of traffic, in percent."""
        return self._transport.call(
            rollout_routes.change_rollout(model, rollout_id, revision, weight=weight)
        )

    def promote(self, model: str, rollout_id: int, *, revision: int | None = None) -> Rollout:
        """Let the version on trial be the stable one."""
        return self._transport.call(
            rollout_routes.decide_rollout(model, rollout_id, "promote", revision)
        )

    def roll_back(self, model: str, rollout_id: int, *, revision: int | None = None) -> Rollout:
        """Let the version that served before serve."""
        return self._transport.call(
            rollout_routes.decide_rollout(model, rollout_id, "rollback", revision)
        )

    def delete(self, model: str, rollout_id: int) -> Rollout:
        """The same as `roll_back`."""
        return self._transport.call(rollout_routes.delete_rollout(model, rollout_id))

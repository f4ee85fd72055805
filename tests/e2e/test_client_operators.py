"""The SDK and the command for those who run a service: enrolled voices, versions of models."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import SAMPLE, Service, run_service
from tests.e2e.test_client_commands import run
from tests.integration.audio_files import samples, wav
from tests.model_versions import publish
from voice_analytics_client import (
    AsyncVoiceAnalytics,
    Conflict,
    InvalidOption,
    NotFound,
    VoiceAnalytics,
)


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the sample's second speaker says: from 4.2 s to 7 s and from 11.6 s to 15 s."""
    speech = samples(SAMPLE)
    path = tmp_path_factory.mktemp("voices") / "theo.wav"
    theirs = np.concatenate([speech[67_200:112_000], speech[185_600:240_000]])
    path.write_bytes(wav(theirs))
    return path


def test_a_voice_is_enrolled_recognised_renamed_and_forgotten(
    service: Service, voice: Path
) -> None:
    enrolled = json.loads(run(service.url, "speakers", "enrol", "Theo", voice, "--json"))
    try:
        assert "Theo" in run(service.url, "analyze", SAMPLE)
        assert "Theo" not in run(service.url, "analyze", SAMPLE, "--no-identify-speakers")
        assert "2 takes" in run(service.url, "speakers", "add", enrolled["id"], voice)
        assert "Theodor" in run(service.url, "speakers", "rename", enrolled["id"], "Theodor")
        assert "Theodor" in run(service.url, "speakers", "list")
    finally:
        run(service.url, "speakers", "delete", enrolled["id"])
    assert enrolled["id"] not in run(service.url, "speakers", "list", "--json")


async def test_voices_through_both_clients(service: Service, voice: Path) -> None:
    recording = wav(samples(voice))
    with VoiceAnalytics(service.url) as client:
        profile = client.speakers.enrol("Nicolas", voice, recording)
        try:
            assert (profile.name, len(profile.takes), profile.usable) == ("Nicolas", 2, True)
            with pytest.raises(Conflict):
                client.speakers.enrol("Nicolas", voice)
            named = {speaker.identity for speaker in client.analyze(SAMPLE).speakers}
            assert {identity.name for identity in named if identity} == {"Nicolas"}
            async with AsyncVoiceAnalytics(service.url) as other:
                assert await other.speakers.get(profile.id) == profile
                assert profile in [found async for found in other.speakers.list()]
        finally:
            client.speakers.delete(profile.id)
        with pytest.raises(NotFound):
            client.speakers.get(profile.id)
        with pytest.raises(InvalidOption):
            client.speakers.enrol("SPEAKER_00", voice)


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of its own, with a second version of the emotion model."""
    with run_service(tmp_path_factory.mktemp("operated")) as running:
        publish(running.data_dir / "model_repository", "emotion", "2")
        yield running


def until(service: Service, rollout_id: int, status: str) -> None:
    """Wait until a rollout of the emotion model is there."""
    deadline = time.monotonic() + 90
    with VoiceAnalytics(service.url) as client:
        while (found := client.rollouts.get("emotion", rollout_id)).status != status:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)


def test_a_rollout_from_the_command_line(operated: Service) -> None:
    url = operated.url
    assert "no rollout" in run(url, "rollout", "status", "emotion", code=2)
    arguments = ("--steps", "10,50", "--step-seconds", "600", "--no-golden")
    begun = json.loads(run(url, "rollout", "start", "emotion", "2", *arguments, "--json"))
    assert (begun["steps"], begun["gates"]["golden"]) == ([10, 50], False)
    until(operated, begun["id"], "running")
    assert ", paused," in run(url, "rollout", "pause", "emotion")
    assert ", running," in run(url, "rollout", "resume", "emotion")
    assert "25 % of traffic" in run(url, "rollout", "weight", "emotion", 25)
    run(url, "rollout", "promote", "emotion")
    until(operated, begun["id"], "promoted")
    assert "promoted" in run(url, "rollout", "status", "emotion")
    assert "serving" in run(url, "models")
    models = {model["name"]: model for model in json.loads(run(url, "models", "--json"))}
    assert models["emotion"]["version"] == "2"
    run(url, "rollout", "rollback", "emotion")
    with VoiceAnalytics(url) as client:
        until(operated, client.rollouts.list("emotion")[0].id, "promoted")
        (emotion,) = [model for model in client.models.list() if model.name == "emotion"]
        assert emotion.version == "1"
    assert begun["id"] in [
        json.loads(line)["id"]
        for line in run(url, "rollout", "history", "emotion", "--json").splitlines()
    ]


def test_wrong_rollouts_are_refused(operated: Service) -> None:
    url = operated.url
    assert "error:" in run(url, "rollout", "start", "emotion", "77", code=1)
    assert "error:" in run(url, "rollout", "start", "nobody", "2", code=1)
    assert "by commas" in run(url, "rollout", "start", "emotion", "2", "--steps", "ten", code=2)


async def test_rollouts_through_the_asynchronous_client(operated: Service) -> None:
    async with AsyncVoiceAnalytics(operated.url) as client:
        names = {model.name for model in await client.models.list()}
        assert {"whisper", "emotion", "speaker_embedding"} <= names
        begun = await client.rollouts.start(
            "emotion", "2", strategy="shadow", gates={"golden": False, "p95_ratio": None}
        )
        try:
            with pytest.raises(Conflict):
                await client.rollouts.start("emotion", "2")
            details = await client.rollouts.get("emotion", begun.id)
            assert (details.strategy, details.weight) == ("shadow", 0)
            assert details.history
        finally:
            ended = await client.rollouts.delete("emotion", begun.id)
        assert ended.status == "rolled_back"
        assert begun.id in [one.id for one in await client.rollouts.list("emotion")]

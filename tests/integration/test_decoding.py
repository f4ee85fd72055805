"""Words through the whole service: seams, silences, languages, beams."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from api.types import SAMPLE_RATE_HZ
from tests.conftest import SAMPLE
from tests.integration.audio_files import CLIPS, samples, silence, wav

Floats = NDArray[np.float32]

SEAM_S = 1.0
"""A cut may change the word that it goes through, and the one beside it."""


def analysed(client: httpx.Client, audio: Floats, **options: Any) -> dict[str, Any]:
    plain = {"diarize": False, "emotions": False, **options}
    answer = client.post("/audio/analyze", files={"file": ("a.wav", wav(audio))}, data=plain)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def words(client: httpx.Client, audio: Floats, begin_s: float = 0.0) -> list[tuple[str, float]]:
    """The words and their middles, in seconds, of audio that begins at `begin_s`."""
    segments = analysed(client, audio)["segments"]
    return [
        (word["word"].strip(), begin_s + (word["start"] + word["end"]) / 2)
        for segment in segments
        for word in segment["words"]
    ]


@pytest.fixture(scope="module")
def conversation() -> Floats:
    return samples(SAMPLE)


@pytest.mark.parametrize("cut_s", [4.65, 7.3, 9.95, 12.6, 15.26])
def test_cutting_a_recording_changes_nothing_but_the_seam(
    client: httpx.Client, conversation: Floats, cut_s: float
) -> None:
    """In pauses and through words: nothing is lost, doubled or moved a second away from the cut."""
    cut = round(cut_s * SAMPLE_RATE_HZ)
    parts = words(client, conversation[:cut]) + words(client, conversation[cut:], cut_s)
    whole = words(client, conversation)
    far = [[(w, t) for w, t in found if abs(t - cut_s) > SEAM_S] for found in (parts, whole)]
    assert [word for word, _ in far[0]] == [word for word, _ in far[1]]
    for (_, here_s), (_, there_s) in zip(*far, strict=True):
        assert here_s == pytest.approx(there_s, abs=0.3)


@pytest.mark.parametrize("inserted_s", [0.3, 1.0, 4.0, 20.0])
def test_inserted_silence_changes_no_word(
    client: httpx.Client, conversation: Floats, inserted_s: float
) -> None:
    """Whoever pauses longer says the same; the words after it come as much later."""
    whole = words(client, conversation)
    pauses = [(a + b) / 2 for (_, a), (_, b) in pairwise(whole) if b - a > 0.9]
    pause_s = pauses[len(pauses) // 2]
    at = round(pause_s * SAMPLE_RATE_HZ)
    longer = np.concatenate([conversation[:at], silence(inserted_s), conversation[at:]])
    found = words(client, longer)
    assert [word for word, _ in found] == [word for word, _ in whole]
    for (_, here_s), (_, there_s) in zip(found, whole, strict=True):
        moved_s = inserted_s if there_s > pause_s else 0.0
        assert here_s == pytest.approx(there_s + moved_s, abs=0.3)


def test_who_switches_languages_is_heard_in_both(client: httpx.Client) -> None:
    """German after English keeps its own language; the recording's is the one spoken longer."""
    german = [samples(path) for path in sorted(CLIPS.glob("emotion_*.wav"))]
    english = samples(SAMPLE)[: 8 * SAMPLE_RATE_HZ]
    answer = analysed(client, np.concatenate([english, silence(2.0), *german]))
    assert answer["language"] == "en"
    first, *_, last = answer["segments"]
    assert first["text"].strip().startswith("four") and last["text"].strip()[0].isupper()
    assert last["start"] > 9.0


def test_a_beam_hears_the_digits(client: httpx.Client, conversation: Floats) -> None:
    greedy = analysed(client, conversation)["transcription"].split()
    beam = analysed(client, conversation, beam_size=5)["transcription"].split()
    same = sum(a == b for a, b in zip(greedy, beam, strict=False))
    assert same >= 0.8 * len(greedy)


@pytest.mark.parametrize("options", [{"beam_size": 0}, {"beam_size": 11}, {"beam_size": "many"}])
def test_an_impossible_beam_is_refused(client: httpx.Client, options: dict[str, Any]) -> None:
    files = {"file": ("a.wav", wav(silence(1)))}
    answer = client.post("/audio/analyze", files=files, data=options)
    assert answer.status_code == 422 and "beam_size" in answer.text


def test_openai_has_no_beam(client: httpx.Client) -> None:
    """A field that OpenAI doesn't have is an error there, never ignored."""
    answer = client.post(
        "/v1/audio/transcriptions",
        files={"file": ("a.wav", wav(silence(1)))},
        data={"model": "whisper-1", "beam_size": "5"},
    )
    assert answer.status_code == 400 and "beam_size" in answer.text

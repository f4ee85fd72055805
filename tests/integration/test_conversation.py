"""What the running service says of a conversation, against one whose truth is known exactly."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.synthesis.conversations import Conversation, Recipe, converse
from benchmarks.synthesis.takes import Take
from export.training.corpora import voiced_bounds
from tests.integration.audio_files import CLIPS, samples, wav
from tests.integration.test_analyze import analyse

WITHIN_S = 0.2
WITHIN_SHARE = 0.02
VOICES = ("digits_george", "emotion_angry_14", "emotion_neutral_03")


def take(name: str) -> Take:
    """A sample clip; where its speech begins and ends is counted in its own samples."""
    audio = samples(CLIPS / f"{name}.wav")
    onset_s, offset_s = voiced_bounds(audio)
    level = np.float32(0.05 / np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
    return Take(audio * level, name, onset_s, offset_s, None, None)


def conversation(snr_db: float | None) -> Conversation:
    recipe = Recipe(count=1, speakers=(3, 3), duration_s=40.0, snr_db=(snr_db,), seed=2)
    return next(converse({name: [take(name)] for name in VOICES}, recipe))


@pytest.mark.parametrize("snr_db", [None, 20.0])
def test_times_and_shares_are_the_true_ones(client: httpx.Client, snr_db: float | None) -> None:
    """Turns were up to 0.4 s too long, and silence 4 s short in a minute: the room that the
    detector leaves around speech was counted, and borders went to any pause between words."""
    truth = conversation(snr_db)
    answer = analyse(client, wav(truth.audio), emotions="false")
    found: list[dict[str, Any]] = answer["turns"]
    assert len(found) == len(truth.turns)
    people: dict[str, str] = {}
    for turn, true in zip(found, truth.turns, strict=True):
        assert people.setdefault(true.speaker, turn["speaker"]) == turn["speaker"]
        assert turn["start"] == pytest.approx(true.start_s, abs=WITHIN_S)
        assert turn["end"] == pytest.approx(true.end_s, abs=WITHIN_S)
    assert len(set(people.values())) == len(VOICES)

    figures = answer["conversation"]
    talk = {
        who: sum(t.end_s - t.start_s for t in truth.turns if t.speaker == who) for who in VOICES
    }
    total = sum(talk.values())
    for who, speaker in people.items():
        assert figures["talk_share"][speaker] == pytest.approx(talk[who] / total, abs=WITHIN_SHARE)
    silence = figures["non_talk_time"] / truth.duration_s
    assert silence == pytest.approx(1 - total / truth.duration_s, abs=WITHIN_SHARE)

    lengths: dict[str, list[float]] = {who: [] for who in VOICES}
    for who, turns in groupby(truth.turns, key=lambda t: t.speaker):
        lengths[who] += [t.end_s - t.start_s for t in turns]
    for who, speaker in people.items():
        told = figures["turn_lengths"][speaker]
        assert told["count"] == len(lengths[who])
        assert told["mean"] == pytest.approx(float(np.mean(lengths[who])), abs=WITHIN_S)
        assert told["longest"] == pytest.approx(max(lengths[who]), abs=WITHIN_S)
    longest = max(truth.turns, key=lambda t: t.end_s - t.start_s)
    monologue = figures["longest_monologue"]
    assert monologue["speaker"] == people[longest.speaker]
    assert monologue["start"] == pytest.approx(longest.start_s, abs=WITHIN_S)
    assert figures["overlap"] == 0

"""What the running service says of a conversation, against one whose truth is known exactly."""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import Any

import httpx
import numpy as np
import pytest

from api.settings import PROJECT_ROOT
from benchmarks.synthesis.conversations import Conversation, Recipe, converse
from benchmarks.synthesis.takes import Take
from export.training.corpora import voiced_bounds
from tests.integration.audio_files import CLIPS, samples, wav
from tests.integration.test_analyze import analyse

WITHIN_S = 0.2
WITHIN_SHARE = 0.02
SAMPLE = PROJECT_ROOT / "samples" / "conversation.wav"
VOICES = ("digits_george", "emotion_angry_14", "emotion_neutral_03")


def take(name: str) -> Take:
    """A sample clip; where its speech begins and ends is counted in its own samples."""
    audio = samples(CLIPS / f"{name}.wav")
    onset_s, offset_s = voiced_bounds(audio)
    level = np.float32(0.05 / np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
    return Take(audio * level, name, onset_s, offset_s, None, None)


def conversation(snr_db: float | None, overlap: float = 0.0) -> Conversation:
    recipe = Recipe(
        count=1, speakers=(3, 3), duration_s=40.0, snr_db=(snr_db,), overlap=overlap, seed=2
    )
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


def test_who_speak_at_once_both_hold_a_turn(client: httpx.Client) -> None:
    """Turns never overlapped: whoever was softer lost the turn, and nobody ever interrupted."""
    truth = conversation(None, overlap=0.2)
    answer = analyse(client, wav(truth.audio), emotions="false")
    turns = answer["turns"]
    both = [
        (b["start"], min(a["end"], b["end"]))
        for n, a in enumerate(turns)
        for b in turns[n + 1 :]
        if b["start"] < a["end"]
    ]
    assert both
    overlap = sum(end - start for start, end in both)
    figures = answer["conversation"]
    assert figures["overlap"] == pytest.approx(overlap, abs=0.01)
    assert figures["interruptions"] > 0
    truly = [
        (b.start_s, min(a.end_s, b.end_s)) for a, b in pairwise(truth.turns) if b.start_s < a.end_s
    ]
    right = sum(max(0.0, min(e, t) - max(b, s)) for b, e in both for s, t in truly)
    assert right > 0.7 * overlap
    assert right > 0.3 * sum(end - start for start, end in truly)
    assert turns == sorted(turns, key=lambda turn: (turn["start"], turn["end"]))
    speakers = {turn["speaker"] for turn in turns}
    for segment in answer["segments"]:
        assert {word["speaker"] for word in segment["words"]} <= speakers
        assert len({word["speaker"] for word in segment["words"]}) <= 1


def test_the_sample_has_nobody_speak_over_anybody(client: httpx.Client) -> None:
    answer = analyse(client, SAMPLE.read_bytes(), emotions="false")
    assert len(answer["speakers"]) >= 2
    assert answer["cache"]["overlap"] in ("hit", "miss")
    assert answer["conversation"]["overlap"] == 0
    assert answer["conversation"]["interruptions"] == 0
    ends = [turn["end"] for turn in answer["turns"]]
    starts = [turn["start"] for turn in answer["turns"]]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))

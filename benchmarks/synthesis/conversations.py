"""Writes synthetic conversations with their truth, and a manifest that `evaluate` reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from benchmarks.errors import UsageError
from benchmarks.synthesis.acoustics import pink_noise, reverberate, room_response
from benchmarks.synthesis.plan import LEAD_S, Turn, plan
from benchmarks.synthesis.takes import Take

SAMPLE_RATE_HZ: Final = 16_000

_SPEAKER_LEVEL_DB: Final = 3.0
"""Speakers are up to this much louder or softer than -26 dB full scale."""

_PEAK: Final = 0.99


@dataclass(frozen=True)
class Recipe:
    """What the conversations are like.

    Attributes:
        count: how many conversations.
        speakers: fewest and most speakers; the conversations go through the range in turn.
        duration_s: a conversation ends with the first turn that reaches this.
        snr_db: noise below speech; each conversation draws one value, None = no noise.
        t60_s: reverberation time of the room; each draws one value, None = dry.
        overlap: share of the time with speech in which two people speak.
        seed: the same seed on the same takes gives the same samples.
    """

    count: int
    speakers: tuple[int, int]
    duration_s: float
    snr_db: tuple[float | None, ...] = (None,)
    t60_s: tuple[float | None, ...] = (None,)
    overlap: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Conversation:
    """One synthetic conversation: float32 audio, shape (num_samples,), 16 kHz, and its truth."""

    name: str
    audio: NDArray[np.float32]
    turns: list[Turn]
    snr_db: float | None
    t60_s: float | None

    @property
    def duration_s(self) -> float:
        return len(self.audio) / SAMPLE_RATE_HZ


def converse(takes: Mapping[str, Sequence[Take]], recipe: Recipe) -> Iterator[Conversation]:
    """Conversations by the recipe, one after the other.

    Raises:
        UsageError: there are fewer voices than speakers asked for.
    """
    low, high = recipe.speakers
    if high > len(takes):
        raise UsageError(
            f"{high} speakers asked for, but there are only {len(takes)} voices: "
            f"{', '.join(sorted(takes))}"
        )
    for number in range(recipe.count):
        rng = np.random.default_rng([recipe.seed, number])
        wanted = low + number % (high - low + 1)
        voices = rng.permutation(sorted(takes))[:wanted]
        snr_db = recipe.snr_db[rng.integers(len(recipe.snr_db))]
        t60_s = recipe.t60_s[rng.integers(len(recipe.t60_s))]
        turns = plan({v: takes[v] for v in voices}, recipe.duration_s, recipe.overlap, rng)
        audio = _render(turns, snr_db, t60_s, rng)
        yield Conversation(f"conversation_{number:03d}", audio, turns, snr_db, t60_s)


def write(conversations: Iterator[Conversation], recipe: Recipe, folder: Path) -> Path:
    """Writes audio, truth and `manifest.jsonl`; returns the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n")
    manifest = folder / "manifest.jsonl"
    with open(manifest, "w") as rows:
        for conversation in conversations:
            row = _write_one(conversation, folder)
            rows.write(json.dumps(row, ensure_ascii=False) + "\n")
    return manifest


def words_of(turns: Sequence[Turn]) -> list[dict[str, Any]] | None:
    """Every word with its times and speaker, by start; None when a take's words have no times."""
    placed = [(p, turn.speaker) for turn in turns for p in turn.placed]
    if any(p.take.word is None for p, _ in placed):
        return None
    placed.sort(key=lambda item: item[0].start_s)
    return [
        {
            "word": p.take.word,
            "start": round(p.start_s, 4),
            "end": round(p.end_s, 4),
            "speaker": speaker,
        }
        for p, speaker in placed
    ]


def _render(
    turns: Sequence[Turn], snr_db: float | None, t60_s: float | None, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Every speaker at a place of their own in the same room, then the noise."""
    num_samples = round((turns[-1].end_s + LEAD_S) * SAMPLE_RATE_HZ)
    mixed = np.zeros(num_samples, dtype=np.float32)
    dry = np.zeros(num_samples, dtype=np.float32)
    for speaker in sorted({turn.speaker for turn in turns}):
        track = np.zeros(num_samples, dtype=np.float32)
        gain = 10 ** (rng.uniform(-_SPEAKER_LEVEL_DB, _SPEAKER_LEVEL_DB) / 20)
        for placed in (p for turn in turns if turn.speaker == speaker for p in turn.placed):
            first = round((placed.start_s - placed.take.onset_s) * SAMPLE_RATE_HZ)
            audio = placed.take.audio[: num_samples - first]
            track[first : first + len(audio)] += audio * np.float32(gain)
        dry += track
        mixed += track if t60_s is None else reverberate(track, room_response(t60_s, rng))
    if snr_db is not None:
        level = np.sqrt(np.mean(np.square(dry[_spoken(turns, num_samples)], dtype=np.float64)))
        noise = pink_noise(num_samples, rng)
        mixed += noise * np.float32(level * 10 ** (-snr_db / 20))
    peak = float(np.abs(mixed).max())
    return mixed * np.float32(_PEAK / peak) if peak > _PEAK else mixed


def _spoken(turns: Sequence[Turn], num_samples: int) -> NDArray[np.bool_]:
    """Which samples lie in a turn."""
    return _holders(turns, num_samples) > 0


def _holders(turns: Sequence[Turn], num_samples: int) -> NDArray[np.int8]:
    """How many speakers hold a turn, by sample."""
    holders = np.zeros(num_samples, dtype=np.int8)
    for turn in turns:
        first, last = (round(t * SAMPLE_RATE_HZ) for t in (turn.start_s, turn.end_s))
        holders[first:last] += 1
    return holders


def _write_one(conversation: Conversation, folder: Path) -> dict[str, Any]:
    """Writes one conversation's files; returns its row of the manifest."""
    name, turns = conversation.name, conversation.turns
    soundfile.write(folder / f"{name}.wav", conversation.audio, SAMPLE_RATE_HZ, "PCM_16")
    lines = [
        f"SPEAKER {name} 1 {t.start_s:.3f} {t.end_s - t.start_s:.3f} "
        f"<NA> <NA> {t.speaker} <NA> <NA>"
        for t in turns
    ]
    (folder / f"{name}.rttm").write_text("\n".join(lines) + "\n")
    truth = _truth(conversation)
    _write_json(folder / f"{name}.truth.json", truth)
    row: dict[str, Any] = {"id": name, "audio": f"{name}.wav", "rttm": f"{name}.rttm"}
    words = words_of(turns)
    if words is not None:
        _write_json(folder / f"{name}.words.json", words)
        row |= {"text": " ".join(w["word"] for w in words), "words": f"{name}.words.json"}
    emotions = [
        {"start": round(t.start_s, 4), "end": round(t.end_s, 4), "label": t.emotion}
        for t in turns
        if t.emotion is not None
    ]
    if emotions:
        _write_json(folder / f"{name}.emotions.json", emotions)
        row["emotions"] = f"{name}.emotions.json"
    row["conditions"] = {
        "speakers": len({t.speaker for t in turns}),
        "snr_db": conversation.snr_db,
        "t60_s": conversation.t60_s,
        "overlap": round(truth["overlap"] / truth["speech"], 3),
    }
    return row


def _truth(conversation: Conversation) -> dict[str, Any]:
    """What the conversation's analytics must come to, counted sample by sample."""
    turns = conversation.turns
    holders = _holders(turns, len(conversation.audio))
    talk_time: dict[str, float] = {}
    for t in turns:
        talk_time[t.speaker] = talk_time.get(t.speaker, 0.0) + t.end_s - t.start_s
    return {
        "duration": conversation.duration_s,
        "speech": float(np.mean(holders > 0)) * conversation.duration_s,
        "overlap": float(np.mean(holders > 1)) * conversation.duration_s,
        "talk_time": talk_time,
        "turns": [
            {
                "speaker": t.speaker,
                "start": t.start_s,
                "end": t.end_s,
                "emotion": t.emotion,
                "words": words_of([t]),
            }
            for t in turns
        ],
    }


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")

"""When two answers to the same recording are equal, and in what they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

TOLERANCE: Final = 1e-3
"""Probabilities and times may differ by this much: what else is in a batch moves the last bits."""

UNCERTAIN: Final = "uncertain"

Essence = dict[str, Any]


def essence(answer: dict[str, Any], labels: Sequence[str]) -> Essence:
    """What of an analysis must be the same whenever and by whomever it is made.

    Version 2 of `emotion` is version 1 with its labels moved by one: they are moved back here, so
    that an answer is right only if its labels are those of the version that it names.

    Args:
        labels: of version 1, in the model's order.
    """
    moved = answer["models"].get("emotion", {}).get("version") == "2"
    names = dict(zip([*labels[1:], labels[0]], labels, strict=True)) if moved else {}
    return {
        "transcription": answer["transcription"],
        "language": answer["language"],
        "duration": answer["duration"],
        "emotions": sorted(names.get(label, label) for label in answer["emotions"]),
        "segments": [_segment(segment, names) for segment in answer["segments"]],
        "speakers": [(s["id"], s["talk_time"], s["turns"]) for s in answer["speakers"]],
        "turns": [(turn["speaker"], turn["start"], turn["end"]) for turn in answer["turns"]],
    }


def _segment(segment: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    emotion = segment["emotion"]
    return {
        "text": segment["text"],
        "speaker": segment["speaker"],
        "times": (segment["start"], segment["end"]),
        "emotion": emotion and names.get(emotion["label"], emotion["label"]),
        "scores": emotion and {names.get(k, k): v for k, v in sorted(emotion["scores"].items())},
        "words": [(w["word"], w["speaker"], w["start"], w["end"]) for w in segment["words"]],
        "probabilities": [word["probability"] for word in segment["words"]],
    }


def differences(expected: Any, found: Any, place: str = "") -> list[str]:
    """Where two values differ: text exactly, numbers by more than `TOLERANCE`; empty = equal."""
    if isinstance(expected, dict) and isinstance(found, dict):
        if expected.keys() != found.keys():
            return [f"{place}: {sorted(expected)} became {sorted(found)}"]
        pairs = [
            (f"{place}.{key}".lstrip("."), value, found[key]) for key, value in expected.items()
        ]
    elif isinstance(expected, (list, tuple)) and isinstance(found, (list, tuple)):
        if len(expected) != len(found):
            return [f"{place}: {len(expected)} became {len(found)}: {expected} became {found}"]
        pairs = [
            (f"{place}[{n}]", value, other)
            for n, (value, other) in enumerate(zip(expected, found, strict=True))
        ]
    elif isinstance(expected, (int, float)) and isinstance(found, (int, float)):
        same = abs(expected - found) <= TOLERANCE
        return [] if same else [f"{place}: {expected} became {found}"]
    else:
        return [] if expected == found else [f"{place}: {expected!r} became {found!r}"]
    return [difference for at, one, other in pairs for difference in differences(one, other, at)]

"""One answer against one reference: counts that add up over recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jiwer
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate, JaccardErrorRate

from benchmarks.evaluation.annotations import Feeling, Turn, Word
from benchmarks.evaluation.manifest import Labelled
from benchmarks.evaluation.normalisation import Normalise, basic

NIST_COLLAR_S: Final = 0.25
"""Forgiven on either side of a reference boundary in NIST's Rich Transcription evaluations."""

NOTHING_HEARD: Final = "(nothing)"
"""Stands for the answer where the service names no emotion at all."""


@dataclass(frozen=True)
class Errors:
    """Substitutions, deletions and insertions over what the reference holds."""

    substituted: int
    deleted: int
    inserted: int
    total: int

    @property
    def wrong(self) -> int:
        return self.substituted + self.deleted + self.inserted


@dataclass(frozen=True)
class SpeakerErrors:
    """Seconds of speaker time: missed, heard where there was none, given to another speaker."""

    missed: float
    false_alarm: float
    confusion: float
    total: float

    @property
    def wrong(self) -> float:
        return self.missed + self.false_alarm + self.confusion


@dataclass(frozen=True)
class Diarization:
    """Who spoke when.

    Attributes:
        strict: no collar, overlapped speech counts.
        nist: 0.25 s forgiven on either side of each reference boundary, overlap left out.
        jaccard: the Jaccard error of each reference speaker, summed; divide by `speakers`.
    """

    strict: SpeakerErrors
    nist: SpeakerErrors
    jaccard: float
    speakers: int
    found: int


@dataclass(frozen=True)
class WordTimes:
    """Distances in seconds between reference and answer, for the words that were recognised."""

    starts: list[float]
    ends: list[float]
    total: int


@dataclass(frozen=True)
class Score:
    """Everything that can be said about one recording; None where the reference is silent."""

    id: str
    duration: float
    conditions: Mapping[str, Any]
    words: Errors | None
    characters: Errors | None
    diarization: Diarization | None
    word_times: WordTimes | None
    emotions: list[tuple[str, str]] | None


def score(
    recording: Labelled,
    analysis: Mapping[str, Any],
    normalise: Normalise,
    renamed: Mapping[str, str],
) -> Score:
    """Compares the service's answer to one recording with its labels.

    Args:
        analysis: as POST /audio/analyze answers it.
        renamed: the reference's emotion → what the service calls it.
    """
    text = recording.text
    words = characters = None
    if text is not None:
        reference, answer = normalise(text), normalise(analysis["transcription"])
        words, characters = word_errors(reference, answer), character_errors(reference, answer)
    return Score(
        id=recording.id,
        duration=float(analysis["duration"]),
        conditions=recording.conditions,
        words=words,
        characters=characters,
        diarization=_diarization(recording, analysis),
        word_times=(
            word_times(recording.words, _words(analysis)) if recording.words is not None else None
        ),
        emotions=_emotions(recording, analysis, renamed),
    )


def word_errors(reference: str, answer: str) -> Errors:
    """Word errors by the shortest edit (jiwer); an empty reference has only insertions."""
    if not reference:
        return Errors(0, 0, len(answer.split()), 0)
    found = jiwer.process_words(reference, answer)
    return Errors(found.substitutions, found.deletions, found.insertions, len(reference.split()))


def character_errors(reference: str, answer: str) -> Errors:
    """Likewise by characters, spaces included."""
    if not reference:
        return Errors(0, 0, len(answer), 0)
    found = jiwer.process_characters(reference, answer)
    return Errors(found.substitutions, found.deletions, found.insertions, len(reference))


def diarization(
    reference: Sequence[Turn], answer: Sequence[Turn], duration_s: float
) -> Diarization:
    """pyannote.metrics' diarization and Jaccard error rates over the whole recording."""
    truth, found = _annotation(reference), _annotation(answer)
    whole = Timeline([Segment(0, max([duration_s, *(turn.end for turn in reference)]))])
    # pyannote's collar is the whole width, half of it on either side
    nist = DiarizationErrorRate(collar=2 * NIST_COLLAR_S, skip_overlap=True)
    jaccard = JaccardErrorRate()(truth, found, uem=whole, detailed=True)
    return Diarization(
        strict=_speaker_errors(DiarizationErrorRate()(truth, found, uem=whole, detailed=True)),
        nist=_speaker_errors(nist(truth, found, uem=whole, detailed=True)),
        jaccard=float(jaccard["speaker error"]),
        speakers=len(truth.labels()),
        found=len(found.labels()),
    )


def word_times(reference: Sequence[Word], answer: Sequence[Word]) -> WordTimes:
    """Words that both have, by the shortest edit, and how far apart their times are."""
    truth = [(_token(word.text), word) for word in reference if _token(word.text)]
    found = [(_token(word.text), word) for word in answer if _token(word.text)]
    starts: list[float] = []
    ends: list[float] = []
    if truth and found:
        aligned = jiwer.process_words(
            " ".join(token for token, _ in truth), " ".join(token for token, _ in found)
        )
        for part in aligned.alignments[0]:
            if part.type != "equal":
                continue
            for i in range(part.ref_end_idx - part.ref_start_idx):
                one = truth[part.ref_start_idx + i][1]
                other = found[part.hyp_start_idx + i][1]
                starts.append(abs(one.start - other.start))
                ends.append(abs(one.end - other.end))
    return WordTimes(starts, ends, len(truth))


def heard_emotion(analysis: Mapping[str, Any], start: float, end: float) -> str:
    """The most probable emotion over a stretch: the turns' scores, weighted by overlap.

    Turns are heard even where no word was understood; without speakers, the segments count.
    """
    turns = [turn for turn in analysis["turns"] if turn.get("emotion") is not None]
    weights: dict[str, float] = {}
    for heard in turns or analysis["segments"]:
        overlap = min(end, heard["end"]) - max(start, heard["start"])
        if overlap > 0 and heard["emotion"] is not None:
            for label, probability in heard["emotion"]["scores"].items():
                weights[label] = weights.get(label, 0.0) + overlap * probability
    return max(weights, key=weights.__getitem__) if weights else NOTHING_HEARD


def _diarization(recording: Labelled, analysis: Mapping[str, Any]) -> Diarization | None:
    if recording.turns is None:
        return None
    answer = [Turn(t["start"], t["end"], t["speaker"]) for t in analysis["turns"]]
    return diarization(recording.turns, answer, analysis["duration"])


def _emotions(
    recording: Labelled, analysis: Mapping[str, Any], renamed: Mapping[str, str]
) -> list[tuple[str, str]] | None:
    feelings = recording.feelings
    if recording.emotion is not None:
        feelings = [Feeling(0.0, float(analysis["duration"]), recording.emotion)]
    if feelings is None:
        return None
    return [
        (renamed.get(f.label, f.label), heard_emotion(analysis, f.start, f.end)) for f in feelings
    ]


def _words(analysis: Mapping[str, Any]) -> list[Word]:
    words = [
        Word(word["word"], word["start"], word["end"])
        for segment in analysis["segments"]
        for word in segment["words"]
    ]
    return sorted(words, key=lambda word: word.start)


def _token(word: str) -> str:
    """A word as one token, so that positions stay in step with the words."""
    return basic(word).replace(" ", "")


def _annotation(turns: Sequence[Turn]) -> Annotation:
    annotation = Annotation()
    for number, turn in enumerate(turns):
        if turn.end > turn.start:
            annotation[Segment(turn.start, turn.end), number] = turn.speaker
    return annotation


def _speaker_errors(parts: Mapping[str, float]) -> SpeakerErrors:
    return SpeakerErrors(
        float(parts["missed detection"]),
        float(parts["false alarm"]),
        float(parts["confusion"]),
        float(parts["total"]),
    )

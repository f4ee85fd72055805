"""Chunks, words, turns and emotions come together in the recording's own time."""

from __future__ import annotations

import numpy as np
import pytest

from api.assembly import Findings, assemble, spoken_language
from api.chunking import chunks
from api.services.emotion import HeardWindow
from api.services.whisper import Transcript
from api.types import AnalysisOptions, Region, Segment, Turn, Waveform, Word

A, B = "SPEAKER_00", "SPEAKER_01"
WAVEFORM = Waveform(np.full(16_000 * 20, 0.1, dtype=np.float32))
REGIONS = [Region(1.0, 3.0), Region(10.0, 12.0)]


def _transcript(*words: tuple[str, float, float]) -> Transcript:
    spoken = tuple(Word(f" {w}", start, end, 0.9) for w, start, end in words)
    text = "".join(word.word for word in spoken)
    segment = Segment(words[0][1], words[-1][2], text, words=spoken)
    return Transcript("en", 0.9, 0.0, (segment,))


def test_a_segment_over_two_speakers_is_split_and_keeps_source_times() -> None:
    cut = chunks(WAVEFORM, REGIONS)
    first, last = cut[0], cut[-1]
    assert first is last, "both regions fit one chunk"
    gap = first.duration_s - 2 * 2.0  # what is left of the silence between them
    found = Findings(
        regions=REGIONS,
        chunks=cut,
        transcripts=[_transcript(("one", 0.2, 1.5), ("two", 2.0 + gap, 3.5 + gap))],
        turns=[Turn(1.0, 3.0, A), Turn(10.0, 12.0, B)],
        heard=[
            HeardWindow(1.0, 3.0, np.array([0.9, 0.1], dtype=np.float32)),
            HeardWindow(10.0, 12.0, np.array([0.2, 0.8], dtype=np.float32)),
        ],
        emotion_labels=["neutral", "angry"],
    )
    analysis = assemble("id", WAVEFORM, AnalysisOptions(), found, {}, {})
    one, two = analysis.segments
    assert (one.speaker, one.text.strip(), two.speaker, two.text.strip()) == (A, "one", B, "two")
    assert one.emotion and one.emotion.label == "neutral"
    assert two.emotion and two.emotion.label == "angry"
    assert 1.0 <= one.start < one.end <= 3.0
    assert 10.0 <= two.start < two.end <= 12.0
    assert analysis.transcription == "one two"
    assert analysis.quality.flags == ()


def test_chunks_vote_on_the_language_by_length_and_certainty() -> None:
    long, short = Region(0.0, 18.0), Region(18.5, 20.0)
    cut = [*chunks(WAVEFORM, [long]), *chunks(WAVEFORM, [short])]
    votes = [Transcript("de", 0.5, 0.0, ()), Transcript("en", 0.99, 0.0, ())]
    assert spoken_language(cut, votes) == "de"
    assert spoken_language([], []) is None


@pytest.mark.parametrize("diarize", [True, False])
def test_silence_assembles_to_an_empty_answer(diarize: bool) -> None:
    found = Findings([], [], [], [], [], ["neutral"])
    analysis = assemble("id", WAVEFORM, AnalysisOptions(diarize=diarize), found, {}, {})
    assert not (analysis.segments or analysis.speakers or analysis.emotions)
    assert analysis.quality.flags == ("no_speech",)

"""Chunks, words, turns and emotions come together in the recording's own time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.assembly import ENVELOPE_POINTS, Findings, Spoken, assemble
from api.chunking import Chunk, chunks
from api.services.emotion import HeardWindow
from api.services.voice_track import VoiceTrack
from api.services.whisper import Transcript
from api.sound import measure
from api.types import AnalysisOptions, Region, Segment, Turn, Waveform, Word

A, B = "SPEAKER_00", "SPEAKER_01"
WAVEFORM = Waveform(np.full(16_000 * 20, 0.1, dtype=np.float32))
REGIONS = [Region(1.0, 3.0), Region(10.0, 12.0)]


TRACK = VoiceTrack(
    (A, B), np.array([2.0, 11.0]), np.array([[0.9, 0.1], [0.2, 0.8]]), np.eye(2), np.ones(2)
)


def _transcript(*words: tuple[str, float, float]) -> Transcript:
    spoken = tuple(Word(f" {w}", start, end, 0.9) for w, start, end in words)
    text = "".join(word.word for word in spoken)
    segment = Segment(words[0][1], words[-1][2], text, words=spoken)
    return Transcript("en", 0.9, {"en": 0.9}, 0.0, (segment,))


def test_words_go_to_one_speaker_where_two_hold_a_turn() -> None:
    """Turns that overlap would give a word to whoever's turn is the longer one."""
    exclusive = [Turn(1.0, 3.0, A), Turn(10.0, 12.0, B)]
    overlapping = [Turn(1.0, 3.0, A), Turn(1.0, 2.5, B), Turn(10.0, 12.0, B)]
    cut = chunks(WAVEFORM, REGIONS)
    found = Findings(
        regions=REGIONS,
        chunks=cut,
        transcripts=[_transcript(("one", 0.2, 1.5))],
        spoken=Spoken(overlapping, exclusive, TRACK),
        heard=[],
        emotion_labels=[],
        sound=measure(WAVEFORM.blocks()),
    )
    options = AnalysisOptions(emotions=False)
    analysis = assemble("id", WAVEFORM, options, found, {}, {})
    assert [segment.speaker for segment in analysis.segments] == [A]
    assert [(turn.start, turn.speaker) for turn in analysis.turns] == [(1, A), (1, B), (10, B)]
    assert analysis.conversation.overlap == pytest.approx(1.5)
    assert analysis.conversation.interruptions == 0


def test_a_segment_over_two_speakers_is_split_and_keeps_source_times() -> None:
    cut = chunks(WAVEFORM, REGIONS)
    first, last = cut[0], cut[-1]
    assert first is last, "both regions fit one chunk"
    gap = first.duration_s - 2 * 2.0  # what is left of the silence between them
    turns = [Turn(1.0, 3.0, A), Turn(10.0, 12.0, B)]
    found = Findings(
        regions=REGIONS,
        chunks=cut,
        transcripts=[_transcript(("one", 0.2, 1.5), ("two", 2.0 + gap, 3.5 + gap))],
        spoken=Spoken(turns, turns, TRACK),
        heard=[
            HeardWindow(1.0, 3.0, np.array([0.9, 0.1], dtype=np.float32)),
            HeardWindow(10.0, 12.0, np.array([0.2, 0.8], dtype=np.float32)),
        ],
        emotion_labels=["neutral", "angry"],
        sound=measure(WAVEFORM.blocks()),
    )
    analysis = assemble("id", WAVEFORM, AnalysisOptions(), found, {}, {})
    one, two = analysis.segments
    assert one.speaker_confidence and two.speaker_confidence
    assert one.speaker_confidence > two.speaker_confidence > 0.7
    assert analysis.diarization and analysis.diarization.found == 2
    assert (one.speaker, one.text.strip(), two.speaker, two.text.strip()) == (A, "one", B, "two")
    assert one.emotion and one.emotion.label == "neutral"
    assert two.emotion and two.emotion.label == "angry"
    assert 1.0 <= one.start < one.end <= 3.0
    assert 10.0 <= two.start < two.end <= 12.0
    assert analysis.transcription == "one two"
    assert [t.emotion and t.emotion.label for t in analysis.turns] == ["neutral", "angry"]
    a, b = analysis.emotion_curves
    assert (a.speaker, a.times, a.scores["angry"]) == (A, (1.5, 2.5), (0.1, 0.1))
    assert (b.speaker, b.times, b.scores["angry"]) == (B, (10.5, 11.5), (0.8, 0.8))
    assert len(analysis.envelope) == ENVELOPE_POINTS
    assert "speech_without_words" not in analysis.quality.flags


def test_without_speakers_there_is_one_curve() -> None:
    heard = [HeardWindow(1.0, 3.0, np.array([0.45, 0.55], dtype=np.float32))]
    found = Findings(
        REGIONS[:1], [], [], Spoken(), heard, ["neutral", "angry"], measure(WAVEFORM.blocks())
    )
    options = AnalysisOptions(diarize=False)
    (curve,) = assemble("id", WAVEFORM, options, found, {}, {}).emotion_curves
    assert (curve.speaker, curve.times) == (None, (1.5, 2.5))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_chunk_that_came_back_empty_is_always_flagged(seed: int) -> None:
    """Batched engines lose speech without a word (faster-whisper#1179), be it one in 4 hours.

    With every chunk's words in place nothing is flagged; whichever is dropped, it is.
    """
    rng = np.random.default_rng(seed)
    silences, lengths = rng.uniform(0.05, 8, 12), rng.uniform(0.2, 45, 12) ** rng.choice([0.5, 1])
    ends = np.cumsum(silences + lengths)
    regions = [Region(float(e - n), float(e)) for e, n in zip(ends, lengths, strict=True)]
    waveform = Waveform(np.zeros(round((ends[-1] + 1) * 16_000), np.float32))
    cut = chunks(waveform, regions)
    sound = measure([np.zeros(16_000, np.float32)])

    def flags(dropped: int | None) -> tuple[str, ...]:
        transcripts = [
            Transcript("en", 0.9, {}, 0.0, ()) if index == dropped else _spoken_all_along(chunk)
            for index, chunk in enumerate(cut)
        ]
        found = Findings(regions, cut, transcripts, Spoken(), [], [], sound)
        options = AnalysisOptions(diarize=False, emotions=False)
        return assemble("id", waveform, options, found, {}, {}).quality.flags

    assert "speech_without_words" not in flags(None)
    for dropped in range(len(cut)):
        assert "speech_without_words" in flags(dropped)


def _spoken_all_along(chunk: Chunk) -> Transcript:
    starts = np.arange(0, chunk.duration_s, 0.4)
    words = [(f"w{n}", float(t), float(t) + 0.3) for n, t in enumerate(starts)]
    return _transcript(*words)


@pytest.mark.parametrize("diarize", [True, False])
def test_silence_assembles_to_an_empty_answer(diarize: bool) -> None:
    found = Findings([], [], [], Spoken(), [], ["neutral"], measure(WAVEFORM.blocks()))
    analysis = assemble("id", WAVEFORM, AnalysisOptions(diarize=diarize), found, {}, {})
    assert not (analysis.segments or analysis.speakers or analysis.emotions)
    assert analysis.quality.flags == ("no_speech",)

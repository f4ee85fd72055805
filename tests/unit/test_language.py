"""The language of a recording: who votes, who keeps his own, and who is asked again."""

from __future__ import annotations

import numpy as np

from api.chunking import Chunk, chunks
from api.language import is_sure, outvoted, vote
from api.services.whisper import Transcript
from api.types import SAMPLE_RATE_HZ, Region, Segment, Waveform

WAVEFORM = Waveform(np.zeros(60 * SAMPLE_RATE_HZ, np.float32))


def chunk(length_s: float) -> Chunk:
    (one,) = chunks(WAVEFORM, [Region(0.0, length_s)])
    return one


def heard(words: bool = True, **languages: float) -> Transcript:
    likeliest = max(languages, key=languages.__getitem__)
    segments = (Segment(0.0, 1.0, " text"),) if words else ()
    return Transcript(likeliest, languages[likeliest], languages, 0.0, segments)


def test_chunks_vote_with_every_language_they_consider_and_their_length() -> None:
    assert vote([chunk(18.0), chunk(1.5)], [heard(de=0.5), heard(en=0.99)]) == "de"
    unsure = [heard(cy=0.4, en=0.35), heard(nl=0.4, en=0.35), heard(de=0.5, en=0.45)]
    assert vote([chunk(10.0)] * 3, unsure) == "en", "everybody's second choice"
    assert vote([], []) is None


def test_an_unsure_chunk_is_outvoted() -> None:
    cut = [chunk(20.0), chunk(20.0), chunk(20.0)]
    found = [heard(en=0.97), heard(cy=0.5, en=0.4), heard(en=0.6)]
    assert outvoted(cut, found, "en") == [1]


def test_who_switches_languages_is_believed() -> None:
    """An interview in two languages isn't pressed into the one that is spoken longer."""
    cut = [chunk(25.0), chunk(25.0), chunk(6.0)]
    found = [heard(en=0.99), heard(en=0.99), heard(de=0.95)]
    assert vote(cut, found) == "en" and outvoted(cut, found, "en") == []


def test_a_short_chunk_is_never_sure() -> None:
    assert not is_sure(chunk(2.0), heard(cy=0.99))
    assert outvoted([chunk(20.0), chunk(2.0)], [heard(en=0.9), heard(cy=0.99)], "en") == [1]


def test_a_chunk_without_words_is_not_decoded_again() -> None:
    assert outvoted([chunk(20.0)], [heard(words=False, cy=0.3)], "en") == []

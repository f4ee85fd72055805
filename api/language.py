"""The language of a recording that is decoded in chunks.

Every chunk is decoded in the language that Whisper hears in it, which costs one decoder step,
and all chunks vote. A chunk that is sure of its language keeps it: people do switch languages, and
another language's token makes Whisper translate or invent. One that isn't, and was outvoted, is
decoded again in the recording's language. So a recording in one language, the usual case, is
encoded once and not twice, and a mumbled chunk no longer comes out in Welsh.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from api.chunking import Chunk
from api.services.whisper import Transcript

SURE_PROBABILITY = 0.9
"""Of a language, to stand against the others' vote. faster-whisper is content with 0.5 when it
stops looking for a recording's one language (`language_detection_threshold`); here a doubt costs no
more than decoding one chunk again."""

SURE_S = 5.0
"""A shorter chunk is too little to go by, however sure Whisper is."""


def is_sure(chunk: Chunk, transcript: Transcript) -> bool:
    """Whether a chunk keeps its language whatever the others say."""
    long_enough = chunk.duration_s >= SURE_S
    return long_enough and transcript.language_probability >= SURE_PROBABILITY


def vote(cut: Sequence[Chunk], transcripts: Sequence[Transcript]) -> str | None:
    """The recording's language: every chunk weighs each language by its probability and its own
    length; None without speech."""
    votes: defaultdict[str, float] = defaultdict(float)
    for chunk, transcript in zip(cut, transcripts, strict=True):
        for language, probability in transcript.languages.items():
            votes[language] += chunk.duration_s * probability
    return max(votes, key=votes.__getitem__) if votes else None


def outvoted(cut: Sequence[Chunk], transcripts: Sequence[Transcript], language: str) -> list[int]:
    """Indices of the chunks that said something in another language and weren't sure of it."""
    return [
        index
        for index, (chunk, transcript) in enumerate(zip(cut, transcripts, strict=True))
        if transcript.segments
        and transcript.language != language
        and not is_sure(chunk, transcript)
    ]

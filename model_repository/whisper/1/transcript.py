"""The answer for one clip, and the JSON in which it leaves the model."""

from __future__ import annotations

import json
import math
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from clips import Clip
from doubt import is_anomalous
from generation import SpecialTokens
from search import Hypothesis
from segments import Segment, split_segments
from tokenization import WhisperTokenizer

MIN_AVG_LOGPROB = -1.0
"""Below this the model guesses (openai-whisper, `logprob_threshold`)."""

MAX_NO_SPEECH_PROB = 0.6
"""Above this, and with a guessed text, the clip is silent (openai-whisper,
`no_speech_threshold`)."""

MIN_LANGUAGE_PROBABILITY = 0.01
"""Below this a language isn't worth a word in the answer."""

_TIME_DIGITS = 3


@dataclass(frozen=True)
class Transcript:
    """What was said in a clip; times in seconds from the clip's start.

    `languages`: the probability of each language; 1 for the only one where the caller named it.
    `with_logprobs`: the caller wants to know each token's probability.
    """

    language: str
    languages: Mapping[str, float]
    hypothesis: Hypothesis
    segments: tuple[Segment, ...]
    duration_s: float
    with_logprobs: bool = False


def transcript_of(
    clip: Clip,
    language: tuple[str, Mapping[str, float]],
    hypothesis: Hypothesis,
    special: SpecialTokens,
) -> Transcript:
    """Cuts a decoded clip into segments; a silent one has none."""
    segments: list[Segment] = []
    if not is_silence(hypothesis):
        segments = split_segments(hypothesis.tokens, hypothesis.logprobs, special, clip.duration_s)
    return Transcript(
        language=language[0],
        languages=language[1],
        hypothesis=hypothesis,
        segments=tuple(segments),
        duration_s=clip.duration_s,
        with_logprobs=clip.options.logprobs,
    )


def is_silence(hypothesis: Hypothesis) -> bool:
    """Whether the text was guessed where the model itself heard no speech."""
    guessed = hypothesis.avg_logprob < MIN_AVG_LOGPROB
    return guessed and hypothesis.no_speech_prob > MAX_NO_SPEECH_PROB


def without_inventions(transcript: Transcript) -> Transcript:
    """No segments where the model heard no speech and yet wrote words that nobody could have said.

    The log probability of a text can look well when single words don't; needs word times.
    """
    unheard = transcript.hypothesis.no_speech_prob > MAX_NO_SPEECH_PROB
    if unheard and all(is_anomalous(segment) for segment in transcript.segments):
        return replace(transcript, segments=())
    return transcript


def compression_ratio(tokens: Sequence[int], tokenizer: WhisperTokenizer) -> float:
    """Bytes of the text over its bytes when packed: about 1.5 for speech, over 2 for a loop."""
    text = tokenizer.decode(tokens).strip().encode()
    return len(text) / len(zlib.compress(text))


def to_json(transcript: Transcript, tokenizer: WhisperTokenizer) -> str:
    """The content of TRANSCRIPT.

    Texts of segments and words keep the space before them, so that joining them gives the whole
    text in any language.
    """
    hypothesis = transcript.hypothesis
    ratio = compression_ratio(hypothesis.tokens, tokenizer)
    segments = [
        {
            "start": _rounded(segment.start_s),
            "end": _rounded(segment.end_s),
            "text": tokenizer.decode(segment.text_tokens),
            "tokens": list(segment.tokens),
            "avg_logprob": hypothesis.avg_logprob,
            "compression_ratio": ratio,
            "temperature": hypothesis.temperature,
            "words": _words(segment),
            **({"logprobs": _logprobs(segment, tokenizer)} if transcript.with_logprobs else {}),
        }
        for segment in transcript.segments
    ]
    answer = {
        "text": "".join(str(segment["text"]) for segment in segments).strip(),
        "language": transcript.language,
        "language_probability": transcript.languages[transcript.language],
        "languages": _likely(transcript.languages),
        "no_speech_prob": hypothesis.no_speech_prob,
        "segments": segments,
        "duration": transcript.duration_s,
    }
    return json.dumps(answer, ensure_ascii=False, allow_nan=False)


def _likely(languages: Mapping[str, float]) -> dict[str, float]:
    """The languages that may well be spoken, the likeliest first."""
    ordered = sorted(languages.items(), key=lambda entry: entry[1], reverse=True)
    return {code: p for code, p in ordered if p >= MIN_LANGUAGE_PROBABILITY}


def _words(segment: Segment) -> list[dict[str, object]]:
    return [
        {
            "word": word.text,
            "start": _rounded(word.start_s),
            "end": _rounded(word.end_s),
            "probability": word.probability,
        }
        for word in segment.words
    ]


def _logprobs(segment: Segment, tokenizer: WhisperTokenizer) -> list[dict[str, object]]:
    """The text tokens, each with its bytes: a character may take several tokens."""
    found: list[dict[str, object]] = []
    for token, probability in zip(segment.text_tokens, segment.probabilities, strict=True):
        own = tokenizer.token_bytes(token)
        found.append(
            {
                "token": own.decode(errors="replace"),
                "bytes": list(own),
                "logprob": math.log(max(probability, sys.float_info.min)),
            }
        )
    return found


def _rounded(seconds: float) -> float:
    return round(seconds, _TIME_DIGITS)

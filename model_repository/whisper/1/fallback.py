"""Decodes up the ladder of temperatures until each transcript looks right.

A transcript that repeats itself, or that the model merely guessed, is decoded again at the clip's
next temperature (Radford et al. 2022, section 4.5). Only those that failed go up.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

from clips import Clip
from decoding import BatchDecoder
from doubt import loops
from engine import EncodedClips
from generation import TIMESTAMP_S
from prompts import Prompt
from search import DecodingTask, Hypothesis
from tokenization import WhisperTokenizer
from transcript import MIN_AVG_LOGPROB, compression_ratio, is_silence

MAX_COMPRESSION_RATIO = 2.4
"""Text that packs better than this repeats itself (openai-whisper,
`compression_ratio_threshold`)."""


class FallbackDecoder:
    """Batch decoding with second chances."""

    def __init__(
        self, decoder: BatchDecoder, tokenizer: WhisperTokenizer, first_timestamp: int
    ) -> None:
        self._decoder = decoder
        self._tokenizer = tokenizer
        self._first_timestamp = first_timestamp

    def decode(
        self,
        clips: Sequence[Clip],
        prompts: Sequence[Prompt],
        encoded: EncodedClips,
        is_cancelled: Sequence[Callable[[], bool]],
    ) -> list[Hypothesis | None]:
        """One hypothesis per clip, None if cancelled; where every rung failed, the best of them."""
        tried: list[list[Hypothesis]] = [[] for _ in clips]
        waiting = list(range(len(clips)))
        gone: set[int] = set()
        for rung in range(max(len(clip.options.temperatures) for clip in clips)):
            waiting = [i for i in waiting if rung < len(clips[i].options.temperatures)]
            if not waiting:
                break
            tasks = [self._task(i, clips[i], prompts[i], rung, is_cancelled[i]) for i in waiting]
            decoded = self._decoder.decode(encoded, tasks)
            for i, hypothesis in zip(waiting, decoded, strict=True):
                if hypothesis is None:
                    gone.add(i)
                else:
                    tried[i].append(hypothesis)
            waiting = [i for i in waiting if i not in gone and self._looks_wrong(tried[i][-1])]
        return [None if i in gone else self._best(tried[i]) for i in range(len(clips))]

    def _task(
        self, index: int, clip: Clip, prompt: Prompt, rung: int, is_cancelled: Callable[[], bool]
    ) -> DecodingTask:
        options = clip.options
        return DecodingTask(
            clip=index,
            prompt=prompt.tokens,
            temperature=options.temperatures[rung],
            seed=_seed(clip, rung),
            end_timestamp=self._first_timestamp + math.ceil(clip.duration_s / TIMESTAMP_S),
            is_cancelled=is_cancelled,
            beam_size=options.beam_size,
            best_of=options.best_of,
            patience=options.patience,
            length_penalty=options.length_penalty,
            timed=options.timestamps,
        )

    def _repeats(self, hypothesis: Hypothesis) -> bool:
        if compression_ratio(hypothesis.tokens, self._tokenizer) > MAX_COMPRESSION_RATIO:
            return True
        return loops([token for token in hypothesis.tokens if token < self._first_timestamp])

    def _looks_wrong(self, hypothesis: Hypothesis) -> bool:
        if is_silence(hypothesis):
            return False
        return hypothesis.avg_logprob < MIN_AVG_LOGPROB or self._repeats(hypothesis)

    def _best(self, tried: Sequence[Hypothesis]) -> Hypothesis:
        """The last one if it looks right, else the likeliest that doesn't repeat itself."""
        if not self._looks_wrong(tried[-1]):
            return tried[-1]
        return max(tried, key=lambda h: (not self._repeats(h), h.avg_logprob))


def _seed(clip: Clip, rung: int) -> int:
    """The same clip draws the same tokens, whoever shares its batch."""
    digest = hashlib.blake2b(clip.audio.tobytes(), digest_size=8, salt=bytes([rung])).digest()
    return int.from_bytes(digest, "little")

"""Finds the times of words: reads finished texts once more and follows where the model looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from alignment import token_times
from engine import EncodedClips, Engine
from generation import TIMESTAMP_S, Generation
from prompts import Prompt
from segments import add_words
from tokenization import WhisperTokenizer
from transcript import Transcript


@dataclass(frozen=True)
class AlignmentTask:
    """A transcript whose words shall have times.

    Attributes:
        clip: index of its clip among the encoded ones.
        prompt: what its text was decoded after.
    """

    clip: int
    prompt: Prompt
    transcript: Transcript


class WordAligner:
    """Word times for whole batches."""

    def __init__(self, engine: Engine, generation: Generation, tokenizer: WhisperTokenizer) -> None:
        self._engine = engine
        self._tokens = generation.tokens
        self._tokenizer = tokenizer

    def align(self, encoded: EncodedClips, tasks: Sequence[AlignmentTask]) -> list[Transcript]:
        """The transcripts with words; a CPU reads them one by one, which costs no copy."""
        size = 1 if self._engine.on_cpu else max(1, len(tasks))
        groups = [tasks[first : first + size] for first in range(0, len(tasks), size)]
        return [transcript for group in groups for transcript in self._align(encoded, group)]

    def _align(self, encoded: EncodedClips, tasks: Sequence[AlignmentTask]) -> list[Transcript]:
        lines = [self._line(task) for task in tasks]
        width = max(len(line) for line in lines)
        tokens = np.full((len(lines), 1, width), self._tokens.end_of_text, np.int64)
        padding = np.array([width - len(line) for line in lines], np.int64)
        for rows, line, pad in zip(tokens, lines, padding, strict=True):
            rows[0, pad:] = line
        clips = self._engine.select(encoded, [task.clip for task in tasks])
        cache = self._engine.empty_cache(len(lines), 1)
        result = self._engine.decode(tokens, padding, [width - 1], cache, clips)
        timed: list[Transcript] = []
        for task, scores, pad in zip(tasks, result.alignment.numpy(), padding, strict=True):
            transcript = task.transcript
            frames = int(transcript.duration_s / TIMESTAMP_S)
            first = len(task.prompt.start) + len(task.prompt.prefix)
            times_s = token_times(scores[:, pad:], frames, first)
            segments = add_words(transcript.segments, times_s, self._tokenizer, transcript.language)
            timed.append(replace(transcript, segments=tuple(segments)))
        return timed

    def _line(self, task: AlignmentTask) -> list[int]:
        """The text as Whisper would write it without timestamps."""
        text = [token for segment in task.transcript.segments for token in segment.text_tokens]
        start = (*task.prompt.start, self._tokens.no_timestamps, *task.prompt.prefix)
        return [*start, *text, self._tokens.end_of_text]

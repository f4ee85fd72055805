"""A batch of clips to a batch of transcripts: the whole of Whisper, without Triton."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from clips import Clip, ClipOptions
from decoding import BatchDecoder
from engine import EncodedClips, Engine, EngineSettings
from fallback import FallbackDecoder
from generation import SAMPLE_RATE_HZ, Generation
from prompts import prompt_of
from tokenization import WhisperTokenizer
from transcript import Transcript, transcript_of, without_inventions
from word_times import AlignmentTask, WordAligner


class Transcriber:
    """One version of Whisper, loaded and ready."""

    def __init__(self, folder: Path, settings: EngineSettings) -> None:
        self.generation = Generation.read(folder / "generation.json")
        end_of_text = self.generation.tokens.end_of_text
        self.tokenizer = WhisperTokenizer(folder / "tokenizer.json", end_of_text)
        self._engine = Engine(folder, self.generation.sizes, settings)
        self._decoder = BatchDecoder(self._engine, self.generation)
        self._fallback = FallbackDecoder(
            self._decoder, self.tokenizer, self.generation.tokens.timestamp_begin
        )
        self._aligner = WordAligner(self._engine, self.generation, self.tokenizer)

    def transcribe(
        self, clips: Sequence[Clip], is_cancelled: Sequence[Callable[[], bool]]
    ) -> list[Transcript | None]:
        """Transcribes all clips together; None for those whose caller went away."""
        encoded = self._engine.encode([clip.audio for clip in clips])
        languages = self._languages(clips, encoded)
        prompts = [
            prompt_of(clip, language, self.generation, self.tokenizer)
            for clip, (language, _) in zip(clips, languages, strict=True)
        ]
        hypotheses = self._fallback.decode(clips, prompts, encoded, is_cancelled)
        transcripts = [
            transcript_of(clip, language, h, self.generation.tokens) if h else None
            for clip, language, h in zip(clips, languages, hypotheses, strict=True)
        ]
        tasks = [
            AlignmentTask(index, prompts[index], transcript)
            for index, transcript in enumerate(transcripts)
            if transcript and transcript.segments and clips[index].options.word_timestamps
        ]
        for task, timed in zip(tasks, self._aligner.align(encoded, tasks), strict=True):
            transcripts[task.clip] = without_inventions(timed)
        return transcripts

    def warm_up(self) -> None:
        """Runs every graph once, so that the first caller doesn't pay for first use."""
        silence = np.zeros(SAMPLE_RATE_HZ, np.float32)
        options = ClipOptions(temperatures=(0.0,), word_timestamps=True)
        self.transcribe([Clip(silence, options)], [lambda: False])

    def _languages(
        self, clips: Sequence[Clip], encoded: EncodedClips
    ) -> list[tuple[str, Mapping[str, float]]]:
        """Each clip's language, and the languages' probabilities; where the caller named it, or
        the model knows but one, it isn't asked for."""
        named = [clip.options.language or "en" for clip in clips]
        sure: list[tuple[str, Mapping[str, float]]] = [(name, {name: 1.0}) for name in named]
        unnamed = [clip.options.language is None for clip in clips]
        if not self.generation.multilingual or not any(unnamed):
            return sure
        detected = self._decoder.detect_languages(encoded)
        return [
            (max(found, key=found.__getitem__), found) if ask else given
            for found, given, ask in zip(detected, sure, unnamed, strict=True)
        ]

"""The transcription engines, each as its authors would have it for many short clips on a CPU.

All decode greedily, in English, without timestamps and without second tries at other temperatures:
the least work that gives the text.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.peers import ggml
from benchmarks.peers.interface import Floats, Heard

SAMPLE_RATE_HZ: Final = 16_000
BATCH: Final = 16
SPECIAL: Final = 50_257
"""The first token that isn't text."""

PROMPT: Final = (50_258, 50_259, 50_359, 50_363)
"""Start, English, transcribe, no timestamps."""


class OpenAIWhisper:
    """openai-whisper: `decode` on a batch of windows, which its `transcribe` never does."""

    workers = 1
    max_batch = BATCH

    def __init__(self, weights: Path, threads: int) -> None:
        import torch
        import whisper

        torch.set_num_threads(threads)
        self._whisper, self._torch = whisper, torch
        self._model = whisper.load_model(str(weights / "openai.pt"), device="cpu")
        self._options = whisper.DecodingOptions(
            language="en", without_timestamps=True, fp16=False, temperature=0.0
        )

    def transcribe(self, clips: Sequence[Floats]) -> list[Heard]:
        mels = [
            self._whisper.log_mel_spectrogram(self._whisper.pad_or_trim(clip), n_mels=80)
            for clip in clips
        ]
        results = self._whisper.decode(self._model, self._torch.stack(mels), self._options)
        return [Heard(result.text, len(result.tokens)) for result in results]


class Transformers:
    """Hugging Face transformers' `generate` on a padded batch."""

    workers = 1
    max_batch = BATCH

    def __init__(self, weights: Path, threads: int, dtype: str) -> None:
        import torch
        from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration
        from transformers.utils import logging

        logging.set_verbosity_error()
        torch.set_num_threads(threads)
        self._torch = torch
        checkpoint = checkpoint_of(weights)
        self._extract = WhisperFeatureExtractor.from_pretrained(checkpoint)
        self._dtype = getattr(torch, dtype)
        self._model = WhisperForConditionalGeneration.from_pretrained(
            checkpoint, dtype=self._dtype, attn_implementation="sdpa"
        ).eval()

    def transcribe(self, clips: Sequence[Floats]) -> list[Heard]:
        features = self._extract(
            list(clips), sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt"
        ).input_features
        prompt = self._torch.tensor([PROMPT] * len(clips))
        with self._torch.inference_mode():
            rows = self._model.generate(
                features.to(self._dtype),
                decoder_input_ids=prompt,
                max_new_tokens=224,
                num_beams=1,
                do_sample=False,
            )
        return [Heard("", sum(token < SPECIAL for token in row)) for row in rows.tolist()]


def _use_widest_vectors() -> None:
    """CTranslate2 settles for AVX2 on AMD's processors; with AVX-512, where there is one, a step of
    its decoder takes a fifth less."""
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags:
        os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")


class FasterWhisper:
    """faster-whisper on CTranslate2 with int8 weights; one call for each clip."""

    max_batch = 1

    def __init__(self, weights: Path, workers: int, threads: int) -> None:
        _use_widest_vectors()
        from faster_whisper import WhisperModel

        self.workers = workers
        self.model: Any = WhisperModel(
            str(converted(weights)),
            device="cpu",
            compute_type="int8",
            cpu_threads=threads,
            num_workers=workers,
        )

    def transcribe(self, clips: Sequence[Floats]) -> list[Heard]:
        return [self._transcribe(clip) for clip in clips]

    def _transcribe(self, clip: Floats) -> Heard:
        segments, _ = self.model.transcribe(
            clip,
            language="en",
            beam_size=1,
            temperature=0.0,
            without_timestamps=True,
            condition_on_previous_text=False,
            compression_ratio_threshold=None,
            log_prob_threshold=None,
            no_speech_threshold=None,
        )
        found = list(segments)
        return Heard("".join(s.text for s in found), sum(len(s.tokens) for s in found))


class BatchedFasterWhisper(FasterWhisper):
    """faster-whisper's batched pipeline: all waiting clips in a row, each a chunk of its batch."""

    def __init__(self, weights: Path, threads: int) -> None:
        from faster_whisper import BatchedInferencePipeline

        super().__init__(weights, workers=1, threads=threads)
        self.max_batch = BATCH
        self._pipeline = BatchedInferencePipeline(model=self.model)

    def transcribe(self, clips: Sequence[Floats]) -> list[Heard]:
        ends = np.cumsum([len(clip) for clip in clips]) / SAMPLE_RATE_HZ
        starts = [0.0, *ends[:-1].tolist()]
        segments, _ = self._pipeline.transcribe(
            np.concatenate(clips),
            language="en",
            beam_size=1,
            temperature=0.0,
            without_timestamps=True,
            vad_filter=False,
            clip_timestamps=[
                {"start": start, "end": end} for start, end in zip(starts, ends, strict=True)
            ],
            batch_size=BATCH,
        )
        heard = [Heard("", 0)] * len(clips)
        for segment in segments:
            clip = int(np.searchsorted(ends, (segment.start + segment.end) / 2))
            before = heard[min(clip, len(clips) - 1)]
            heard[min(clip, len(clips) - 1)] = Heard(
                before.text + segment.text, before.tokens + len(segment.tokens)
            )
        return heard


class WhisperCpp:
    """whisper.cpp through its binding on PyPI, matrices as q8_0; one call for each clip."""

    workers = 1
    max_batch = 1

    def __init__(self, weights: Path, threads: int) -> None:
        import _pywhispercpp
        from pywhispercpp.model import Model

        self._library: Any = _pywhispercpp
        self._model: Any = Model(
            str(ggml.converted(weights)),
            redirect_whispercpp_logs_to=None,
            n_threads=threads,
            language="en",
            no_context=True,
            no_timestamps=True,
            single_segment=True,
            suppress_blank=False,
            temperature=0.0,
            temperature_inc=0.0,
            print_progress=False,
        )

    def transcribe(self, clips: Sequence[Floats]) -> list[Heard]:
        return [self._transcribe(clip) for clip in clips]

    def _transcribe(self, clip: Floats) -> Heard:
        segments = self._model.transcribe(clip)
        context, library = self._model._ctx, self._library
        tokens = [
            library.whisper_full_get_token_id(context, segment, number)
            for segment in range(len(segments))
            for number in range(library.whisper_full_n_tokens(context, segment))
        ]
        text = "".join(segment.text for segment in segments)
        return Heard(text, sum(token < SPECIAL for token in tokens))


def checkpoint_of(weights: Path) -> Path:
    """The Hugging Face folder that a set of weights was made from."""
    return Path((weights / "checkpoint.path").read_text())


def converted(weights: Path) -> Path:
    """The weights in CTranslate2's format, int8, made on first use."""
    folder = weights / "ctranslate2"
    if not (folder / "model.bin").exists():
        from ctranslate2.converters import TransformersConverter

        converter = TransformersConverter(
            str(checkpoint_of(weights)), copy_files=["tokenizer.json", "preprocessor_config.json"]
        )
        converter.convert(str(folder), quantization="int8", force=True)
    return folder

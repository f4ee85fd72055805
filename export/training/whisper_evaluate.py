"""Measure an exported tiny Whisper as Hugging Face decodes it, in full 30 s windows.

``python -m export.training.whisper_evaluate --checkpoint DIR --fsdd DIR --emodb DIR --out DIR``
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    AutoTokenizer,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizerFast,
)

from export.training import augment
from export.training.corpora import DIGIT_WORDS, SAMPLE_RATE_HZ, load_emodb, load_fsdd
from export.training.whisper_data import FSDD_TEST_TAKES, Voice, prepare_voices
from export.training.whisper_targets import group_segments
from export.training.whisper_trial import SpokenString, edit_distance, spoken_strings
from export.training.whisper_vocabulary import (
    ENGLISH,
    FIRST_TIMESTAMP,
    GERMAN,
    NO_SPEECH,
    START_OF_TRANSCRIPT,
    TIMESTAMP_STEP_S,
    encode_text,
)

_BATCH = 8
# Lengths of the digit strings, in digits.
_SHORT = [1 + index % 10 for index in range(40)]
_LONG = [11 + index % 15 for index in range(15)]
_DIGIT_OF = {encode_text(word)[0]: digit for digit, word in enumerate(DIGIT_WORDS)}
Clips = Sequence[NDArray[np.float32]]
Figures = dict[str, float | int]


@dataclass(frozen=True)
class Transcriber:
    """A checkpoint folder, loaded."""

    model: WhisperForConditionalGeneration
    features: WhisperFeatureExtractor
    tokenizer: WhisperTokenizerFast

    @classmethod
    def load(cls, folder: Path) -> Transcriber:
        """Load model, feature extractor and tokenizer, weights in float32."""
        return cls(
            WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval(),
            WhisperFeatureExtractor.from_pretrained(folder),
            AutoTokenizer.from_pretrained(folder),
        )

    def log_mel(self, clips: Clips) -> Tensor:
        """Whisper's features of clips zero-padded to 30 s: float32 (clips, 80, 3000)."""
        extracted = self.features(list(clips), sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")
        features: Tensor = extracted.input_features
        return features

    def tokens(self, clips: Clips, language: str, timestamps: bool) -> list[list[int]]:
        """Greedy decoding with Whisper's timestamp rules; token ids per clip."""
        rows: list[list[int]] = []
        for first in range(0, len(clips), _BATCH):
            output = self.model.generate(
                self.log_mel(clips[first : first + _BATCH]),
                language=language,
                task="transcribe",
                return_timestamps=timestamps,
                max_new_tokens=200,
            )
            rows.extend(output.tolist())
        return rows

    def first_probabilities(self, clips: Clips) -> Tensor:
        """Probabilities of what follows <|startoftranscript|>: float32 (clips, vocabulary)."""
        parts = []
        for first in range(0, len(clips), _BATCH):
            mel = self.log_mel(clips[first : first + _BATCH])
            start = torch.full((len(mel), 1), START_OF_TRANSCRIPT)
            logits = self.model(mel, decoder_input_ids=start).logits[:, 0]
            parts.append(logits.softmax(-1))
        return torch.cat(parts)


def digit_errors(
    transcriber: Transcriber, strings: Sequence[SpokenString], timestamps: bool = True
) -> Figures:
    """WER of digit strings, and with timestamps how far segment starts are off."""
    rows = transcriber.tokens([s.audio for s in strings], "en", timestamps)
    errors, start_errors_s = 0, []
    for string, row in zip(strings, rows, strict=True):
        heard = [_DIGIT_OF.get(token, -1) for token in row if token < START_OF_TRANSCRIPT - 1]
        errors += edit_distance(string.digits, heard)
        stamps = [token for token in row if token >= FIRST_TIMESTAMP]
        groups = group_segments(string.words)
        if timestamps and len(stamps) == 2 * len(groups):
            for stamp, group in zip(stamps[::2], groups, strict=True):
                heard_s = (stamp - FIRST_TIMESTAMP) * TIMESTAMP_STEP_S
                start_errors_s.append(abs(heard_s - group[0].start_s))
    words = sum(len(string.words) for string in strings)
    figures: Figures = {"strings": len(strings), "words": words, "wer": round(errors / words, 4)}
    if start_errors_s:
        median_s, high_s = np.percentile(start_errors_s, (50, 90))
        figures["start_error_median_s"] = round(float(median_s), 3)
        figures["start_error_p90_s"] = round(float(high_s), 3)
    return figures


def wordless_clips(seed: int) -> dict[str, list[NDArray[np.float32]]]:
    """Ten clips each of silence, noise, hum and tunes: 2 to 28 s, -70 to -14 dB full scale."""
    rng = np.random.default_rng(seed)
    sources: dict[str, Callable[[int], NDArray[np.float32]]] = {
        "silence": lambda size: np.zeros(size, np.float32),
        "noise": lambda size: augment.coloured_noise(size, rng),
        "hum": lambda size: augment.mains_hum(size, rng),
        "tunes": lambda size: augment.music_tones(size, rng),
    }
    clips: dict[str, list[NDArray[np.float32]]] = {}
    for name, source in sources.items():
        sizes = rng.integers(2 * SAMPLE_RATE_HZ, 28 * SAMPLE_RATE_HZ, 10)
        clips[name] = [
            source(int(size)) * np.float32(10 ** rng.uniform(-3.5, -0.7)) for size in sizes
        ]
    return clips


def wordless_errors(transcriber: Transcriber, seed: int = 3) -> dict[str, Figures]:
    """For each kind of clip without speech: how many got words, how sure it was of no speech."""
    figures: dict[str, Figures] = {}
    for name, clips in wordless_clips(seed).items():
        rows = transcriber.tokens(clips, "en", timestamps=True)
        worded = sum(any(token < START_OF_TRANSCRIPT - 1 for token in row) for row in rows)
        sure = transcriber.first_probabilities(clips)[:, NO_SPEECH]
        figures[name] = {
            "clips": len(clips),
            "with_words": worded,
            "no_speech_prob_min": round(float(sure.min()), 4),
            "no_speech_prob_median": round(float(sure.median()), 4),
        }
    return figures


def speech_detection(transcriber: Transcriber, clips: Clips, language: str) -> Figures:
    """How often the language is right, and the highest no-speech probability on speech."""
    probabilities = transcriber.first_probabilities(clips)
    own, other = (ENGLISH, GERMAN) if language == "en" else (GERMAN, ENGLISH)
    right = probabilities[:, own] > probabilities[:, other]
    return {
        "clips": len(clips),
        "language_right": round(float(right.float().mean()), 4),
        "no_speech_prob_max": round(float(probabilities[:, NO_SPEECH].max()), 4),
    }


def german_errors(transcriber: Transcriber, emodb: Path, speakers: Sequence[str]) -> Figures:
    """WER on EMO-DB's sentences (the ten it knows) by the given speakers."""
    own = [recording for recording in load_emodb(emodb) if recording.speaker in speakers]
    clips = [augment.normalise_level(recording.audio) for recording in own]
    rows = transcriber.tokens(clips, "de", timestamps=True)
    texts = [transcriber.tokenizer.decode(row, skip_special_tokens=True).strip() for row in rows]
    wer = jiwer.wer([recording.text for recording in own], [text or "-" for text in texts])
    return {"wer": round(float(wer), 4), **speech_detection(transcriber, clips, "de")}


def basic_digit_report(transcriber: Transcriber, voices: Sequence[Voice]) -> dict[str, Figures]:
    """Short and long digit strings at 30 dB SNR, with timestamps."""
    short = spoken_strings(voices, _SHORT, 30.0, seed=5)
    long = spoken_strings(voices, _LONG, 30.0, seed=7)
    return {
        "1-10 digits, 30 dB": digit_errors(transcriber, short),
        "11-25 digits, 30 dB": digit_errors(transcriber, long),
        "speech": speech_detection(transcriber, [string.audio for string in short], "en"),
    }


def hard_digit_report(transcriber: Transcriber, voices: Sequence[Voice]) -> dict[str, Figures]:
    """Short strings under harder conditions; with several voices also long ones in turns."""
    short = spoken_strings(voices, _SHORT, 30.0, seed=5)
    noisy = spoken_strings(voices, _SHORT, 10.0, seed=6)
    halting = spoken_strings(voices, _SHORT, 30.0, seed=9, gap_s=(0.05, 2.5))
    report = {
        "1-10 digits, 10 dB": digit_errors(transcriber, noisy),
        "1-10 digits, 30 dB, pauses up to 2.5 s": digit_errors(transcriber, halting),
        "1-10 digits, 30 dB, no timestamps": digit_errors(transcriber, short, timestamps=False),
    }
    if len(voices) > 1:
        mixed = spoken_strings(voices, _LONG, 30.0, seed=8, speakers=2)
        report["11-25 digits, 30 dB, two speakers"] = digit_errors(transcriber, mixed)
    return report


def evaluate(folder: Path, fsdd: Path, emodb: Path, unheard: Sequence[str]) -> dict[str, object]:
    """Every figure of a checkpoint: unheard voices, no voice, known voices (unseen takes).

    Harder conditions are only tried on unheard voices, or on known ones if there are no others.
    """
    transcriber = Transcriber.load(folder)
    recordings = load_fsdd(fsdd)
    plain = np.random.default_rng(0)
    report: dict[str, object] = {}
    known = [r for r in recordings if r.take < FSDD_TEST_TAKES and r.speaker not in unheard]
    voices = prepare_voices(known, 1, plain)
    report["known voices"] = basic_digit_report(transcriber, voices)
    own = [recording for recording in recordings if recording.speaker in unheard]
    if own:
        voices = prepare_voices(own, 1, plain)
        report["unheard voices"] = basic_digit_report(transcriber, voices)
    report["no speech"] = wordless_errors(transcriber)
    report["harder conditions"] = hard_digit_report(transcriber, voices)
    if any(recording.speaker in unheard for recording in load_emodb(emodb)):
        report["unheard German voices"] = german_errors(transcriber, emodb, unheard)
    return report


def as_text(report: object, indent: int = 0) -> str:
    """A report as an indented list of its figures."""
    if not isinstance(report, dict):
        return f" {report}"
    lines = (
        f"\n{'  ' * indent}{name}:{as_text(part, indent + 1)}" for name, part in report.items()
    )
    return "".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate as the command line says; write report.json and report.txt."""
    parser = argparse.ArgumentParser(
        prog="python -m export.training.whisper_evaluate",
        description="Measure an exported tiny Whisper on digit strings, sentences and noise.",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--fsdd", type=Path, required=True, help="folder of FSDD's WAVs")
    parser.add_argument("--emodb", type=Path, required=True, help="folder of EMO-DB's WAVs")
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    parser.add_argument(
        "--unheard", nargs="*", default=[], metavar="SPEAKER", help="speakers held out of training"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    with torch.inference_mode():
        report = evaluate(options.checkpoint, options.fsdd, options.emodb, options.unheard)
    (options.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    text = as_text(report).lstrip("\n") + "\n"
    (options.out / "report.txt").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

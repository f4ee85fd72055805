"""The speech that the bundled checkpoints are trained on, read into memory at 16 kHz.

Sources:
    * Free Spoken Digit Dataset (FSDD), https://github.com/Jakobovski/free-spoken-digit-dataset,
      CC BY-SA 4.0: ``{digit}_{speaker}_{take}.wav``, 8 kHz mono.
    * Berlin Database of Emotional Speech (EMO-DB), Burkhardt et al., Interspeech 2005,
      http://emodb.bilderbar.info, free for research:
      ``{speaker:2}{sentence:3}{emotion:1}{take:1}.wav``.
    * Synthetic English digits spoken by ``espeak-ng``, https://github.com/espeak-ng/espeak-ng:
      voices beyond FSDD's few.
"""

from __future__ import annotations

import io
import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# EMO-DB's ten sentences by their code (Burkhardt et al. 2005, table 1).
EMODB_SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}

# EMO-DB's letters are German initials: Wut, Langeweile, Ekel, Angst, Freude, Trauer, neutral.
EMODB_EMOTIONS = {
    "W": "angry",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happy",
    "T": "sad",
    "N": "neutral",
}

ESPEAK_ACCENTS = (
    "en-gb",
    "en-us",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-rp",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
)

# Speaker variants of espeak-ng 1.51 that sound like people: no whispers, robots or croaks.
_VARIANT_NAMES = """
Alex Alicia Andrea Andy Annie Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee Marco Mario Michael
Mike adam anika announcer antonio belinda caleb david ed edward edward2 f1 f2 f3 f4 f5 grandma
grandpa gustave iven iven2 iven3 iven4 john kaukovalta linda m1 m2 m3 m4 m5 m6 m7 m8 marcelo max
michel miguel norbert pablo paul pedro quincy rob sandro shelby steph steph2 steph3 travis victor
"""
ESPEAK_VARIANTS = tuple(_VARIANT_NAMES.split())


@dataclass(frozen=True)
class Recording:
    """One utterance and what is known about it.

    Attributes:
        audio: float32, shape (num_samples,), 16 kHz, without DC offset, at its own level.
        corpus: "fsdd", "emodb" or "espeak".
        speaker: unique across corpora only together with ``corpus``.
        language: "en" or "de".
        text: the words spoken.
        take: running number of the speaker's repetitions.
        onset_s, offset_s: bounds of the voiced part, seconds from the start of ``audio``.
        digit: 0..9 for a spoken digit, else None.
        emotion: one of EMODB_EMOTIONS' names for EMO-DB, else None.
        sentence: EMO-DB's sentence code, else None.
    """

    audio: NDArray[np.float32]
    corpus: str
    speaker: str
    language: str
    text: str
    take: int
    onset_s: float
    offset_s: float
    digit: int | None = None
    emotion: str | None = None
    sentence: str | None = None


def read_16k(path: Path) -> NDArray[np.float32]:
    """Read a mono WAV as float32 samples at 16 kHz, in [-1, 1], DC offset removed."""
    samples, rate_hz = soundfile.read(path, dtype="float32")
    return _resample(samples, int(rate_hz))


def voiced_bounds(audio: NDArray[np.float32], threshold_db: float = -32.0) -> tuple[float, float]:
    """Find where an utterance starts and ends by its energy.

    Args:
        audio: float32, shape (num_samples,), 16 kHz, at least one sample.
        threshold_db: frames of 10 ms this far below the loudest one count as silence.

    Returns:
        Start and end in seconds.
    """
    hop = SAMPLE_RATE_HZ // 100
    num_frames = max(1, len(audio) // hop)
    power = (
        np.add.reduceat(audio.astype(np.float64) ** 2, np.arange(0, num_frames * hop, hop)) / hop
    )
    envelope = np.convolve(np.sqrt(power + 1e-12), [0.25, 0.5, 0.25], "same")
    loud = np.flatnonzero(envelope > envelope.max() * 10 ** (threshold_db / 20))
    first, last = (int(loud[0]), int(loud[-1])) if len(loud) else (0, num_frames - 1)
    return first * hop / SAMPLE_RATE_HZ, min(len(audio), (last + 1) * hop) / SAMPLE_RATE_HZ


def load_fsdd(folder: Path) -> list[Recording]:
    """Load every FSDD recording in a folder.

    Raises:
        FileNotFoundError: the folder holds no WAV.
    """
    recordings = []
    for path in _wav_files(folder):
        digit, speaker, take = path.stem.split("_")
        audio = read_16k(path)
        onset_s, offset_s = voiced_bounds(audio)
        recordings.append(
            Recording(
                audio,
                "fsdd",
                speaker,
                "en",
                DIGIT_WORDS[int(digit)],
                int(take),
                onset_s,
                offset_s,
                int(digit),
            )
        )
    return recordings


def load_emodb(folder: Path) -> list[Recording]:
    """Load every EMO-DB recording in a folder, silence that was padded onto its ends cut off.

    Raises:
        FileNotFoundError: the folder holds no WAV.
    """
    recordings = []
    for path in _wav_files(folder):
        name = path.stem
        audio = _trim_padding(read_16k(path))
        onset_s, offset_s = voiced_bounds(audio)
        sentence, emotion = name[2:5], EMODB_EMOTIONS[name[5]]
        recordings.append(
            Recording(
                audio,
                "emodb",
                name[:2],
                "de",
                EMODB_SENTENCES[sentence],
                ord(name[6]) - ord("a"),
                onset_s,
                offset_s,
                emotion=emotion,
                sentence=sentence,
            )
        )
    return recordings


def synthesise_digits(num_voices: int, seed: int = 0) -> list[Recording]:
    """Speak the ten digits with random espeak-ng voices: accent, variant, pitch, rate, ending.

    Args:
        num_voices: how many voices; speakers are named "espeak000", "espeak001", …
        seed: the same seed gives the same voices.

    Raises:
        FileNotFoundError: the ``espeak-ng`` program is not installed.
    """
    rng = random.Random(seed)
    recordings = []
    for index in range(num_voices):
        voice = f"{rng.choice(ESPEAK_ACCENTS)}+{rng.choice(ESPEAK_VARIANTS)}"
        pitch, words_per_minute = rng.randint(10, 90), rng.randint(110, 210)
        for digit, word in enumerate(DIGIT_WORDS):
            audio = speak(word + rng.choice(("", ",", ".")), voice, pitch, words_per_minute)
            onset_s, offset_s = voiced_bounds(audio, threshold_db=-38.0)
            if offset_s - onset_s < 0.1:
                continue
            first = max(0, round((onset_s - 0.02) * SAMPLE_RATE_HZ))
            audio = audio[first : round((offset_s + 0.02) * SAMPLE_RATE_HZ)]
            onset_s, offset_s = voiced_bounds(audio)
            recordings.append(
                Recording(
                    audio, "espeak", f"espeak{index:03d}", "en", word, 0, onset_s, offset_s, digit
                )
            )
    return recordings


def speak(text: str, voice: str, pitch: int, words_per_minute: int) -> NDArray[np.float32]:
    """Synthesise speech with espeak-ng: float32, shape (num_samples,), 16 kHz.

    Raises:
        FileNotFoundError: the program is not installed.
        subprocess.CalledProcessError: it doesn't know the voice.
    """
    command = [
        "espeak-ng",
        "-v",
        voice,
        "-p",
        str(pitch),
        "-s",
        str(words_per_minute),
        "--stdout",
        text,
    ]
    spoken = subprocess.run(command, capture_output=True, check=True).stdout
    samples, rate_hz = soundfile.read(io.BytesIO(spoken), dtype="float32")
    return _resample(samples, int(rate_hz))


def split_speakers(
    recordings: Sequence[Recording], held_out: Sequence[str]
) -> tuple[list[Recording], list[Recording]]:
    """Split into (recordings of all other speakers, recordings of the held-out speakers).

    Raises:
        ValueError: a held-out speaker isn't among the recordings.
    """
    missing = set(held_out) - {recording.speaker for recording in recordings}
    if missing:
        raise ValueError(f"no recordings of {', '.join(sorted(missing))}")
    kept = [recording for recording in recordings if recording.speaker not in held_out]
    return kept, [recording for recording in recordings if recording.speaker in held_out]


def _wav_files(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("*.wav"))
    if not paths:
        raise FileNotFoundError(f"no WAV files in {folder}")
    return paths


def _resample(samples: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    audio = np.asarray(soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ), dtype=np.float32)
    return audio - np.float32(audio.mean(dtype=np.float64)) if len(audio) else audio


def _trim_padding(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    sounding = np.flatnonzero(np.abs(audio - np.median(audio)) > 3e-4)
    return audio[sounding[0] : sounding[-1] + 1] if len(sounding) else audio

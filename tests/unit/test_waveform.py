"""A recording reads the same whether its samples lie in memory or on disk."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from api import audio
from api.cache import samples_digest
from api.chunking import chunks
from api.errors import AudioTooLong, StoreUnavailable
from api.sample_file import SampleCollector, SampleFile
from api.services.windows import cover
from api.settings import PROJECT_ROOT
from api.types import SAMPLE_RATE_HZ, Region, Waveform
from api.vad import VoiceActivityDetector, padded
from tests.integration.audio_files import digits
from tests.waveforms import all_of

SPEECH = np.concatenate(digits())


def on_disk(recording: NDArray[np.float32]) -> Waveform:
    file = SampleFile()
    for first in range(0, len(recording), 7_001):
        file.append(recording[first : first + 7_001])
    return Waveform(file)


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Waveform, Waveform]]:
    recording = np.tile(SPEECH, 6)
    yield Waveform(recording), on_disk(recording)


@settings(max_examples=200, deadline=None)
@given(first=st.integers(-50, 4_000), last=st.integers(-50, 4_000))
def test_any_stretch_is_the_same(first: int, last: int) -> None:
    noise = np.random.default_rng(0).standard_normal(3_000).astype(np.float32)
    memory, disk = Waveform(noise), on_disk(noise)
    wanted = noise[max(0, first) : max(0, first, last)]
    for waveform in (memory, disk):
        np.testing.assert_array_equal(waveform.read(first, last), wanted)
    np.testing.assert_array_equal(np.concatenate(list(disk.blocks(700))), noise)
    np.testing.assert_array_equal(disk.cut(0.01, 0.1), memory.cut(0.01, 0.1))


def test_what_is_found_in_a_recording_does_not_depend_on_where_it_lies(
    both: tuple[Waveform, Waveform],
) -> None:
    detector = VoiceActivityDetector()
    regions, digests, joined, windows = ([], [], [], [])
    for waveform in both:
        regions.append(padded(detector.detect(waveform), waveform.duration_s))
        digests.append(samples_digest(waveform))
        joined.append([c.samples for c in chunks(waveform, regions[-1], max_s=5)])
        windows.append([w.samples for w in cover(waveform, regions[-1], window_s=2, hop_s=1)])
    assert len(regions[0]) > 5 and len(joined[0]) > 3 and len(windows[0]) > 5
    assert regions[0] == regions[1]
    assert digests[0] == digests[1]
    for of_memory, of_disk in zip(joined[0] + windows[0], joined[1] + windows[1], strict=True):
        np.testing.assert_array_equal(of_memory, of_disk)


def test_speech_longer_than_a_chunk_is_split_at_the_same_places() -> None:
    noise = np.random.default_rng(1).standard_normal(20 * SAMPLE_RATE_HZ).astype(np.float32)
    cuts = [
        [
            piece
            for chunk in chunks(waveform, [Region(0.0, 20.0)], max_s=3)
            for piece in chunk.pieces
        ]
        for waveform in (Waveform(noise), on_disk(noise))
    ]
    assert len(cuts[0]) > 6
    assert cuts[0] == cuts[1]


def wav(path: Path, seconds: int) -> Path:
    """Speech over and over: 16 bit, 16 kHz, written without ever holding it."""
    pcm = (SPEECH * 32767).astype("<i2").tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        missing = seconds * SAMPLE_RATE_HZ * 2
        while missing > 0:
            file.writeframesraw(pcm[:missing])
            missing -= len(pcm)
    return path


def test_a_long_file_is_decoded_onto_the_disk(tmp_path: Path) -> None:
    """More than fits below `IN_MEMORY_S`: what was in memory till then comes along."""
    path = wav(tmp_path / "long.wav", 700)
    waveform = audio.decode(path, max_duration_s=900, folder=tmp_path)
    assert waveform.duration_s == 700
    assert waveform.num_samples > audio.IN_MEMORY_S * SAMPLE_RATE_HZ
    expected = np.frombuffer(path.read_bytes()[44:], "<i2").astype(np.float32) / np.float32(32768)
    np.testing.assert_array_equal(all_of(waveform), expected)
    assert list(tmp_path.iterdir()) == [path], "the samples' file has no name"
    with pytest.raises(AudioTooLong):
        audio.decode(path, max_duration_s=699, folder=tmp_path)


def test_a_file_and_its_bytes_are_decoded_alike(tmp_path: Path) -> None:
    path = wav(tmp_path / "short.wav", 3)
    of_file = audio.decode(path, max_duration_s=10)
    of_bytes = audio.decode(path.read_bytes(), max_duration_s=10)
    assert of_file.info == of_bytes.info
    np.testing.assert_array_equal(all_of(of_file), all_of(of_bytes))


def test_the_file_is_closed_with_its_last_user() -> None:
    """Thousands of jobs must not leave thousands of open files."""
    gc.collect()
    before = psutil.Process().num_fds()
    for _ in range(20):
        waveform = on_disk(SPEECH)
        windows = cover(waveform, [Region(0.0, 2.0)], window_s=1, hop_s=1)
        del waveform
        assert windows[0].samples.any(), "a window keeps its recording open"
    del windows
    gc.collect()
    assert psutil.Process().num_fds() == before


def test_a_full_disk_is_told_as_such() -> None:
    """Linux's /dev/full answers each write as a full disk does."""
    collector = SampleCollector(1_000)
    collector.append(np.zeros(900, np.float32))
    collector.append(np.zeros(900, np.float32))
    file = collector.collected()
    assert isinstance(file, SampleFile)
    full = os.open("/dev/full", os.O_RDWR)
    os.dup2(full, file._descriptor)
    os.close(full)
    with pytest.raises(StoreUnavailable, match="no room"):
        collector.append(np.zeros(900, np.float32))


LISTEN = """
import sys
from pathlib import Path
from api import audio
from api.cache import samples_digest
from api.chunking import chunks
from api.services import diarization
from api.services.windows import cover
from api.overlap import OverlapDetector
from api.vad import VoiceActivityDetector, padded

def peak_kb():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])

detector = VoiceActivityDetector()
audio.decode(Path(sys.argv[2]), max_duration_s=60)
before = peak_kb()
waveform = audio.decode(Path(sys.argv[1]), max_duration_s=36_000, folder=Path(sys.argv[3]))
samples_digest(waveform)
regions = padded(detector.detect(waveform), waveform.duration_s)
OverlapDetector().detect(waveform, regions)
heard = sum(len(chunk.samples) for chunk in chunks(waveform, regions))
windows = cover(waveform, regions, window_s=2, hop_s=1) + diarization.windows(waveform, regions)
heard += sum(len(window.samples) for window in windows)
assert heard > waveform.num_samples
print(peak_kb() - before)
"""


def test_the_memory_for_a_recording_does_not_grow_with_it(tmp_path: Path) -> None:
    """Everything that an analysis does with the samples of 40 min, in less than they would take."""
    seconds = 2_400
    long, short = wav(tmp_path / "long.wav", seconds), wav(tmp_path / "short.wav", 5)
    done = subprocess.run(
        [sys.executable, "-c", LISTEN, str(long), str(short), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=PROJECT_ROOT,
    )
    assert done.returncode == 0, done.stderr
    samples_kb = seconds * SAMPLE_RATE_HZ * 4 / 1024
    assert int(done.stdout) < samples_kb / 2

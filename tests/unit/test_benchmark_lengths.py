"""Cost by length: the recordings, and what is written of them."""

from __future__ import annotations

import json
import wave
from dataclasses import asdict
from pathlib import Path

import numpy as np

from api.settings import PROJECT_ROOT
from benchmarks.lengths import Cost, record, write


def test_a_recording_is_the_sample_over_and_over_and_exactly_as_long(tmp_path: Path) -> None:
    record(tmp_path / "long.wav", 50.5)
    with wave.open(str(tmp_path / "long.wav")) as file:
        assert (file.getnframes(), file.getframerate()) == (808_000, 16_000)
        heard = np.frombuffer(file.readframes(808_000), "<i2")
    with wave.open(str(PROJECT_ROOT / "samples" / "conversation.wav")) as file:
        sample = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert np.array_equal(heard, np.resize(sample, 808_000))


def test_costs_are_told_by_the_second(tmp_path: Path) -> None:
    cost = Cost(seconds=100, wall_s=9, api_cpu_s=1, triton_cpu_s=3, peak_memory_mib=512.4, words=50)
    about = {"processor": "P", "cores": 2, "commit": "c", "measured_at": "now"}
    results = {"machine": about, "busy_share": 0.0, "costs": [asdict(cost)]}
    said = write(results, [cost], tmp_path / "new").read_text()
    assert "| 100 s | 40.0 | 10.0 | 30.0 | 512 MiB | 50 | 9 s |" in said
    assert json.loads((tmp_path / "new" / "lengths.json").read_text()) == results
    assert (tmp_path / "new" / "lengths.png").stat().st_size > 1000

"""The judge of the soak: what it must flag, and what it must let pass."""

from __future__ import annotations

import copy
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.soak import chaos
from benchmarks.soak.answers import differences, essence
from benchmarks.soak.growth import Growth, growths, slope, slope_within
from benchmarks.soak.judge import faults
from benchmarks.soak.ledger import GRACE_S, Accepted, Ledger, Outage
from benchmarks.soak.meter import Sample, Usage, own_bytes
from benchmarks.soak.recordings import recordings

LABELS = ["angry", "happy", "sad"]
MIB = 2**20


def answer(version: str = "1", label: str = "angry", likely: float = 0.8) -> dict[str, Any]:
    others = [name for name in LABELS if name != label]
    scores = {label: likely, **dict.fromkeys(others, (1 - likely) / 2)}
    return {
        "transcription": "one two",
        "language": "en",
        "duration": 2.0,
        "emotions": [label],
        "models": {"emotion": {"version": version}},
        "speakers": [{"id": "SPEAKER_00", "talk_time": 1.0, "turns": 1}],
        "turns": [{"speaker": "SPEAKER_00", "start": 0.0, "end": 1.0}],
        "segments": [
            {
                "text": "one two",
                "speaker": "SPEAKER_00",
                "start": 0.0,
                "end": 1.0,
                "emotion": {"label": label, "scores": scores},
                "words": [
                    {"word": w, "speaker": "SPEAKER_00", "start": 0, "end": 1, "probability": 0.9}
                    for w in ("one", "two")
                ],
            }
        ],
    }


def compare(found: dict[str, Any]) -> list[str]:
    return differences(essence(answer(), LABELS), essence(found, LABELS))


def test_another_word_speaker_or_emotion_is_a_difference() -> None:
    changes: list[tuple[tuple[str, ...], Any]] = [
        (("words", "0", "word"), "nine"),
        (("words", "1", "speaker"), "SPEAKER_01"),
        (("emotion", "label"), "happy"),
        (("words", "0", "probability"), 0.897),
        (("end",), 1.002),
        (("text",), "one  two"),
    ]
    for path, value in changes:
        found = answer()
        place: Any = found["segments"][0]
        for step in path[:-1]:
            place = place[int(step)] if step.isdecimal() else place[step]
        place[path[-1]] = value
        assert len(compare(found)) == 1, path
    silent = answer() | {"segments": [], "transcription": ""}
    assert len(compare(silent)) == 2


def test_the_last_bits_of_a_score_are_none() -> None:
    assert compare(answer(likely=0.8009)) == []
    assert compare(answer(likely=0.8011)) != []


def test_labels_are_those_of_the_version_that_an_answer_names() -> None:
    moved = answer("2", "happy")
    moved["segments"][0]["emotion"]["scores"] = {"happy": 0.8, "sad": 0.1, "angry": 0.1}
    assert compare(moved) == []
    assert compare(copy.deepcopy(moved) | {"models": {"emotion": {"version": "1"}}}) != []
    assert compare(answer() | {"models": {"emotion": {"version": "2"}}}) != []


def kinds(ledger: Ledger, growth: list[Growth] | None = None, left: tuple[str, ...] = ()) -> str:
    return " ".join(fault.kind for fault in faults(ledger, growth or [], left))


def test_a_job_that_was_accepted_and_did_not_succeed_is_lost() -> None:
    ledger = Ledger()
    ledger.accepted = [
        Accepted("job", "digits", "a", 0.0, answer=answer(), end="succeeded"),
        Accepted("job", "digits", "b", 0.0, end="failed"),
        Accepted("job", "digits", "c", 0.0),
    ]
    assert kinds(ledger) == "lost lost"


def test_asking_again_is_excused_by_the_right_kill_at_the_right_time_only() -> None:
    ledger = Ledger()
    ledger.outages = [Outage("worker", "worker 1", 100.0, 103.0)]
    ledger.began -= 104
    ledger.trouble("connection broken", "", 99.0)
    assert kinds(ledger) == ""
    ledger.trouble("503", "a worker's end takes no model away", 99.0)
    assert kinds(ledger) == "unexplained"
    ledger.began -= GRACE_S
    ledger.trouble("connection broken", "it was over long ago", 103.5 + GRACE_S)
    assert kinds(ledger) == "unexplained unexplained"


def test_what_is_left_over_and_what_grows_are_faults() -> None:
    grows = Growth("worker", "MiB", 100.0, 17.0, 16.0, 3000.0)
    short = Growth("worker", "MiB", 100.0, 17.0, 16.0, 60.0)
    assert kinds(Ledger(), [grows, short], ("stub whisper, process 7",)) == "growth left over"


def test_the_slope_is_that_of_the_leak_and_not_of_restarts() -> None:
    hour = np.arange(0.0, 3600.0, 10.0)
    saw = [(t, 100 + (t % 600) / 3600 * 30) for t in hour]
    assert abs(3600 * slope(saw)) < 3
    lives = [np.array([p for p in saw if start <= p[0] < start + 600]) for start in hour[::60]]
    assert 3600 * slope_within(lives) == pytest.approx(30)
    assert 3600 * slope([(t, t / 3600 * 20) for t in hour]) == pytest.approx(20)
    assert slope([]) == slope_within([]) == 0.0


def run_of(leak_mib_per_h: float, restart_every_s: float | None) -> list[Growth]:
    """An hour of a worker's memory; a restart begins at 100 MiB again."""
    samples = []
    for at_s in np.arange(0.0, 3600.0, 10.0):
        life, age_s = divmod(at_s, restart_every_s) if restart_every_s else (0.0, at_s)
        pss = round((100 + leak_mib_per_h * age_s / 3600) * MIB)
        samples.append(Sample(at_s, (Usage("worker", 10 + int(life), pss, 30, 0.0),), 4, MIB))
    return growths(samples, [], warm_s=300.0)


def test_a_leak_shows_with_and_without_restarts() -> None:
    assert all(growth.is_flat for growth in run_of(5.0, None))
    assert [g.what for g in run_of(40.0, None) if not g.is_flat] == [
        "worker, all",
        "worker, each while it lives",
    ]
    assert [g.what for g in run_of(40.0, 1200.0) if not g.is_flat and g.is_judged] == [
        "worker, each while it lives"
    ]


def test_memory_of_its_own_is_what_it_allocated_and_not_what_it_read(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(bytes(64 * MIB))
    before = own_bytes(os.getpid())
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as pages:
        assert sum(pages[:: mmap.PAGESIZE]) == 0
        assert own_bytes(os.getpid()) - before < 8 * MIB
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # the heap may have kept as much
    with mmap.mmap(-1, 64 * MIB, flags=private) as allocated:
        for page in range(0, len(allocated), mmap.PAGESIZE):
            allocated[page] = 1
        assert own_bytes(os.getpid()) - before > 56 * MIB


def test_every_kind_is_killed_in_turn_and_the_seed_decides() -> None:
    def first(seed: int) -> list[tuple[float, str]]:
        plan = chaos.schedule(seed, 10.0, ["worker", "stub", "triton"])
        return [next(plan) for _ in range(6)]

    assert first(1) == first(1) != first(2)
    assert sorted(kind for _, kind in first(3)[:3]) == ["stub", "triton", "worker"]
    assert all(5 <= pause_s <= 15 for pause_s, _ in first(4))


def test_copies_differ_where_nobody_listens() -> None:
    for recording in recordings():
        one, two = recording.copy(1), recording.copy(65_535)
        assert not np.array_equal(one, two)
        assert np.array_equal(recording.samples, recording.copy(0))
        moved = np.flatnonzero(one != recording.samples)
        assert len(moved) == 1 and moved[0] >= len(one) - 16
        assert not recording.samples[-16_000:].any()


def test_the_report_of_an_empty_run_is_one() -> None:
    """Ctrl-C may come before the first sample."""
    assert [g.observed_s for g in growths([], [], 0.0)] == [0.0, 0.0]

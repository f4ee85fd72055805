"""Who is answered by which version, how versions are judged, and what a repository is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import model_config
from api.errors import InferenceError, ModelUnavailable, UnusableRelease
from api.metrics import Metrics
from api.repository import COMMITTED_REPOSITORY, LEAVES, Manifest, manifest, verify
from api.serving import ServedModels, Serving, gates
from api.serving.agreement import agreement, mean_cosine, word_error_rate, words
from api.serving.gates import Gates, Side, Window, judge, merged
from api.serving.trials import Trial
from tests.model_versions import publish, rotated_labels

STABLE = ServedModels.of({name: manifest(COMMITTED_REPOSITORY, name, "1") for name in LEAVES})
NEWER = Manifest("emotion", "2", {**STABLE.manifests["emotion"].content, "version": "2"})


def trial(weight: int, *, copies: int = 0, step: int = 0, **bounds: float | int | None) -> Trial:
    return Trial(7, step, NEWER, weight, copies, Gates(**bounds))  # type: ignore[arg-type]


def serving_with(on_trial: Trial | None) -> Serving:
    serving = Serving(STABLE, Metrics())
    serving.update(STABLE.manifests, {} if on_trial is None else {"emotion": on_trial})
    return serving


@given(st.sets(st.text(max_size=64), min_size=1), st.integers(1, 100), st.integers(0, 100))
def test_a_key_stays_with_its_version_while_weights_grow(
    keys: set[str], weight: int, more: int
) -> None:
    before, after = serving_with(trial(weight)), serving_with(trial(min(100, weight + more)))
    for key in keys:
        chosen = before.choose(key).version("emotion")
        assert before.choose(key).version("emotion") == chosen
        if chosen == "2":
            assert after.choose(key).version("emotion") == "2"


@pytest.mark.parametrize("weight", [0, 10, 50, 100])
def test_traffic_is_split_by_weight(weight: int) -> None:
    serving = serving_with(trial(weight))
    share = np.mean([serving.choose(f"key {i}").version("emotion") == "2" for i in range(2000)])
    assert share == pytest.approx(weight / 100, abs=0.035)


def test_all_that_depends_on_a_release_comes_from_the_chosen_one() -> None:
    chosen = serving_with(trial(100)).choose("key")
    assert chosen.versions == {"whisper": "1", "emotion": "2", "speaker_embedding": "1"}
    assert chosen.fingerprints["emotion"] == NEWER.fingerprint
    assert chosen.fingerprints["whisper"] == STABLE.fingerprints["whisper"]
    assert chosen.ensemble.name == "voice_analytics_1_2_1"


def test_a_version_that_always_fails_loses_its_traffic_within_the_stated_number() -> None:
    serving = serving_with(trial(100, min_requests=100, error_rate=0.02))
    served = serving.choose("key")
    asked = 0
    while serving.choose("key").version("emotion") == "2":
        serving.failed(served, ModelUnavailable("gone", model="emotion"))
        asked += 1
    assert asked == 3  # floor(0.02 * 100) + 1
    assert serving.trials.breached.is_set()
    assert serving.current(served) is serving.stable
    breach = serving.trials.breaches[7]
    assert breach.gate == "error_rate"
    assert "gone" in breach.reason


def test_another_models_failure_is_not_blamed_on_the_version_on_trial() -> None:
    both = Manifest("whisper", "2", {**STABLE.manifests["whisper"].content, "version": "2"})
    serving = Serving(STABLE, Metrics())
    trials = {"emotion": trial(100), "whisper": Trial(8, 0, both, 100, 0, Gates(error_rate=0.5))}
    serving.update(STABLE.manifests, trials)
    serving.failed(serving.choose("key"), InferenceError("nonsense", model="whisper"))
    assert serving.trials.windows[8].candidate.failed == 1
    assert 7 not in serving.trials.windows


def test_a_stream_leaves_a_version_that_was_rolled_back_and_keeps_one_that_was_followed() -> None:
    serving = serving_with(trial(100))
    on_trial, before = serving.choose("a stream"), STABLE
    serving.update({**STABLE.manifests, "emotion": NEWER}, {})  # promoted
    assert serving.current(on_trial) is on_trial
    assert serving.current(before) is before
    serving = serving_with(trial(100))
    on_trial = serving.choose("a stream")
    serving.update(STABLE.manifests, {})  # rolled back
    assert serving.current(on_trial) is serving.stable


def test_what_is_under_way_is_known() -> None:
    serving = serving_with(trial(100))
    served = serving.choose("key")
    with serving.holding(served), serving.holding(STABLE):
        assert serving.in_use()["emotion"] == ["1", "2"]
    assert serving.in_use() == {}


def test_a_new_step_begins_a_new_window() -> None:
    serving = serving_with(trial(100))
    serving.answered(serving.choose("key"), {"emotion": "miss", "whisper": "hit"})
    assert serving.trials.windows[7].candidate.answered == 1
    serving.update(STABLE.manifests, {"emotion": trial(100)})
    assert serving.trials.windows[7].candidate.answered == 1
    serving.update(STABLE.manifests, {"emotion": trial(100, step=1)})
    assert serving.trials.windows == {}


async def test_copies_are_compared_off_the_way_and_dropped_when_there_are_too_many() -> None:
    serving = serving_with(trial(0, copies=100))
    same = np.eye(7, dtype=np.float32)
    asked: list[str] = []

    async def recompute(other: ServedModels) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        asked.append(other.version("emotion"))
        return same

    for key in range(10):
        serving.saw(STABLE, "emotion", str(key), same, recompute)
    assert asked == []
    async with serving.trials.comparing():
        for _ in range(200):
            await asyncio.sleep(0.01)
            if serving.trials.windows[7].compared == 4:
                break
    window = serving.trials.windows[7]
    assert (window.compared, window.dropped, window.agreement) == (4, 6, 1.0)
    assert asked == ["2"] * 4


@pytest.mark.parametrize(
    "window, gate",
    [
        (Window(), None),
        (Window(candidate=Side(49, 1)), None),
        (Window(candidate=Side(0, 2)), "error_rate"),
        (Window(candidate=Side(980, 20)), None),
        (Window(candidate=Side(979, 21)), "error_rate"),
        (Window(Side(seconds=(0.1,) * 50), Side(seconds=(0.24,) * 50)), None),
        (Window(Side(seconds=(0.1,) * 50), Side(seconds=(0.26,) * 50)), "latency"),
        (Window(Side(seconds=(0.1,) * 50), Side(seconds=(9.0,) * 19)), None),
        (Window(Side(seconds=(0.1,) * 50), Side(seconds=(0.1,) * 98 + (9.0,) * 2)), None),
        (Window(agreements=(0.4,) * 9), None),
        (Window(agreements=(0.4,) * 10), "agreement"),
        (Window(agreements=(0.6,) * 10), None),
    ],
)
def test_gates(window: Window, gate: str | None) -> None:
    breach = judge(window, Gates())
    assert (breach.gate if breach else None) == gate


def test_a_gate_that_is_off_is_never_broken() -> None:
    bad = Window(Side(seconds=(0.1,) * 50), Side(seconds=(9.0,) * 50), (0.0,) * 50, 50)
    assert judge(bad, Gates(p95_ratio=None, agreement=None)) is None


def test_windows_of_several_workers_count_as_one() -> None:
    one = gates.compared(Window(Side(1, 0), Side(2, 1, "why", (0.1,))), 0.5)
    whole = merged([one, one, Window()])
    assert whole.candidate == Side(4, 2, "why", (0.1, 0.1))
    assert (whole.compared, whole.agreement) == (2, 0.5)


def test_texts_are_compared_by_what_was_said() -> None:
    assert words("Four, ONE five!") == words("4 1 5") == ["four", "one", "five"]
    assert word_error_rate("a b c d".split(), "a x c".split()) == 0.5
    assert word_error_rate([], []) == 0.0
    assert word_error_rate([], ["a"]) == 1.0


def test_emotions_agree_by_name_and_voices_by_direction() -> None:
    labels = STABLE.emotion_labels
    content = {**NEWER.content, "labels": [*labels[1:], labels[0]]}
    rotated = STABLE.with_release(Manifest("emotion", "2", content))
    rows = np.eye(len(labels), dtype=np.float32)
    assert agreement("emotion", (rows, rows), (STABLE, STABLE)) == 1.0
    assert agreement("emotion", (rows, rows), (STABLE, rotated)) == 0.0
    assert agreement("emotion", (rows, np.roll(rows, -1, axis=1)), (STABLE, rotated)) == 1.0
    assert mean_cosine(rows, 3 * rows) == pytest.approx(1.0)
    assert mean_cosine(rows, rows[:, :3]) == 0.0


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    for name in (*LEAVES, "voice_analytics"):
        (folder / name).mkdir(parents=True)
        text = (COMMITTED_REPOSITORY / name / model_config.CONFIG).read_text()
        (folder / name / model_config.CONFIG).write_text(text)
    return folder


def test_only_the_named_versions_are_loaded_and_ensembles_are_pinned_to_them(
    repository: Path,
) -> None:
    stable = {"whisper": "3", "emotion": "1", "speaker_embedding": "12"}
    assert model_config.serve_only(repository, stable) == "voice_analytics_3_1_12"
    assert model_config.named_versions(repository, "whisper") == ["3"]
    assert not model_config.set_versions(repository, "whisper", ["3"])
    assert model_config.set_versions(repository, "whisper", ["12", "3"])
    assert model_config.named_versions(repository, "whisper") == ["3", "12"]
    assert model_config.pinned_ensembles(repository) == ["voice_analytics_3_1_12"]
    model_config.serve_only(repository, {**stable, "emotion": "2"})
    assert model_config.pinned_ensembles(repository) == ["voice_analytics_3_2_12"]
    assert not list(repository.rglob(".config*"))


def test_a_release_is_verified_by_every_file(tmp_path: Path) -> None:
    (tmp_path / "emotion").mkdir()
    folder = publish(tmp_path, "emotion", "2", rotated_labels)
    assert verify(tmp_path, "emotion", "2").content["labels"][0] == STABLE.emotion_labels[1]
    (folder / "extra").write_text("")
    with pytest.raises(UnusableRelease, match="extra"):
        verify(tmp_path, "emotion", "2")
    (folder / "extra").unlink()
    (folder / "labels.txt").unlink()
    with pytest.raises(UnusableRelease, match=r"labels\.txt"):
        verify(tmp_path, "emotion", "2")
    with pytest.raises(UnusableRelease, match="not in the model repository"):
        verify(tmp_path, "emotion", "3")

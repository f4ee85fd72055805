"""How answers are scored, on cases small enough to count by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.bootstrap import estimate
from benchmarks.cli import main
from benchmarks.errors import UsageError
from benchmarks.evaluation.annotations import Feeling, Turn, Word, read_rttm, read_words
from benchmarks.evaluation.manifest import Labelled, read_manifest
from benchmarks.evaluation.metrics import by_condition, measure, recalls
from benchmarks.evaluation.normalisation import basic, normaliser
from benchmarks.evaluation.scores import (
    NOTHING_HEARD,
    Score,
    character_errors,
    diarization,
    heard_emotion,
    score,
    word_errors,
    word_times,
)

ALL_ONE = [Turn(0, 10, "X")]


def test_a_bootstrap_interval_covers_the_truth_as_often_as_it_says() -> None:
    """95% intervals of a mean over 30 draws hold the true mean in about 95% of 200 trials."""
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        drawn = rng.exponential(2.0, size=30).tolist()
        found = estimate(drawn, lambda xs: sum(xs) / len(xs), seed=trial)
        assert found is not None and found.low is not None and found.high is not None
        assert found.low <= found.value <= found.high
        covered += found.low <= 2.0 <= found.high
    assert 0.86 <= covered / 200 <= 0.99


def test_one_item_has_no_interval_and_none_has_no_estimate() -> None:
    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values) if values else math.nan

    alone = estimate([3.0], mean)
    assert alone is not None and (alone.value, alone.low, alone.high) == (3.0, None, None)
    assert estimate([], mean) is None


@pytest.mark.parametrize(
    ("reference", "answer", "wrong", "total"),
    [
        ("one two three", "one two three", 0, 3),
        ("one two three", "one too three four", 2, 3),
        ("one two three", "", 3, 3),
        ("", "one two", 2, 0),
        ("", "", 0, 0),
    ],
)
def test_word_errors(reference: str, answer: str, wrong: int, total: int) -> None:
    errors = word_errors(reference, answer)
    assert (errors.wrong, errors.total) == (wrong, total)


def test_character_errors_count_spaces() -> None:
    assert character_errors("one two", "onetwo").wrong == 1
    assert character_errors("one two", "onetwo").total == 7


def test_the_basic_normaliser_forgives_case_punctuation_and_forms_of_unicode() -> None:
    assert basic("  Don’t STOP — ﬁve, sechs!  ") == "don t stop five sechs"
    assert basic("Straße") == basic("STRASSE")


@pytest.mark.filterwarnings("ignore:.*english.json:pytest.PytestUnraisableExceptionWarning")
def test_the_english_normaliser_is_whispers() -> None:
    """It leaves its table of spellings open to the garbage collector, hence the filter."""
    assert normaliser("english")("I can't take twenty-one colours.") == "i can not take 21 colors"


@pytest.mark.parametrize(
    ("reference", "answer", "missed", "false_alarm", "confusion"),
    [
        ([Turn(0, 4, "a"), Turn(4, 10, "b")], [Turn(0, 4, "X"), Turn(4, 10, "Y")], 0, 0, 0),
        ([Turn(0, 4, "a"), Turn(4, 10, "b")], ALL_ONE, 0, 0, 4),
        ([Turn(0, 4, "a")], ALL_ONE, 0, 6, 0),
        ([Turn(0, 10, "a")], [], 10, 0, 0),
        ([Turn(0, 6, "a"), Turn(4, 10, "b")], [Turn(0, 5, "X"), Turn(5, 10, "Y")], 2, 0, 0),
    ],
    ids=["right", "all one", "too much", "nothing", "overlap found once"],
)
def test_diarization_errors_counted_by_hand(
    reference: list[Turn], answer: list[Turn], missed: int, false_alarm: int, confusion: int
) -> None:
    found = diarization(reference, answer, 10.0).strict
    assert (found.missed, found.false_alarm, found.confusion) == (missed, false_alarm, confusion)
    assert found.total == sum(turn.end - turn.start for turn in reference)


def test_the_nist_figure_forgives_a_quarter_second_on_either_side_and_leaves_overlap_out() -> None:
    reference = [Turn(0, 5, "a"), Turn(5, 10, "b")]
    for shift, wrong in ((0.2, 0.0), (0.4, 0.15)):
        answer = [Turn(0, 5 + shift, "X"), Turn(5 + shift, 10, "Y")]
        found = diarization(reference, answer, 10.0)
        assert found.strict.wrong == pytest.approx(shift)
        assert found.nist.wrong == pytest.approx(wrong)
    overlapped = [Turn(0, 6, "a"), Turn(4, 10, "b")]
    assert diarization(overlapped, [Turn(0, 5, "X"), Turn(5, 10, "Y")], 10.0).nist.wrong == 0


def test_the_jaccard_error_weighs_every_speaker_alike() -> None:
    """a is 1 of 9 seconds, and wholly missed: DER 10%, JER half of the speakers plus b's share."""
    found = diarization([Turn(0, 1, "a"), Turn(1, 10, "b")], ALL_ONE, 10.0)
    assert found.strict.wrong == pytest.approx(1)
    assert found.jaccard / found.speakers == pytest.approx((1 + 1 / 10) / 2)


def test_word_times_compare_the_words_that_both_have() -> None:
    truth = [Word("Four,", 1.0, 1.5), Word("seven", 2.0, 2.4), Word("two", 3.0, 3.3)]
    answer = [Word(" four", 1.1, 1.5), Word(" eight", 2.0, 2.4), Word(" two.", 2.9, 3.6)]
    found = word_times(truth, answer)
    assert found.starts == pytest.approx([0.1, 0.1])
    assert found.ends == pytest.approx([0.0, 0.3])
    assert found.total == 3
    assert word_times(truth, []).starts == []


def segment(start: float, end: float, **scores: float) -> dict[str, Any]:
    loudest = max(scores.items(), key=lambda item: item[1], default=None)
    emotion = {"label": loudest[0], "scores": scores} if loudest else None
    return {"start": start, "end": end, "text": "", "words": [], "emotion": emotion}


def test_an_emotion_is_what_the_turns_sound_like_in_its_stretch() -> None:
    parts = [segment(0, 2, sad=0.9, happy=0.1), segment(2, 6, sad=0.4, happy=0.6), segment(6, 7)]
    unheard = {"turns": parts, "segments": [segment(0, 7, angry=1.0)]}
    without_speakers = {"turns": [], "segments": parts}
    for analysis in (unheard, without_speakers):
        assert heard_emotion(analysis, 0, 2) == "sad"
        assert heard_emotion(analysis, 1.5, 6) == "happy"
        assert heard_emotion(analysis, 0, 3) == "sad"
        assert heard_emotion(analysis, 6, 7) == NOTHING_HEARD


def emotional(*pairs: tuple[str, str], **conditions: Any) -> Score:
    return Score("x", 1.0, conditions, None, None, None, None, list(pairs))


def test_recall_is_averaged_over_emotions_however_rare() -> None:
    scores = [
        emotional(("sad", "sad"), ("sad", "happy"), ("sad", "sad")),
        emotional(("sad", "sad")),
    ]
    scores.append(emotional(("happy", "sad")))
    assert recalls(scores) == {"happy": 0.0, "sad": 0.75}
    assert measure(scores)["uar"].value == 0.375
    assert set(measure(scores)) == {"uar"}


def test_figures_by_condition_are_in_numeric_order() -> None:
    scores = [emotional(("sad", "sad"), snr_db=snr) for snr in (20.0, 5.0, None, 10.0)]
    assert list(by_condition(scores, "snr_db")) == ["5.0", "10.0", "20.0", "None"]


def test_a_whole_answer_is_scored() -> None:
    recording = Labelled(
        id="a",
        audio=Path("a.wav"),
        text="Four seven",
        turns=[Turn(0, 2, "anna")],
        words=[Word("four", 0.1, 0.5)],
        emotion=None,
        feelings=[Feeling(0, 2, "fear")],
        num_speakers=None,
        language=None,
        conditions={},
    )
    words = [{"word": "four", "start": 0.1, "end": 0.6}]
    analysis = {
        "transcription": "four eleven",
        "duration": 2.0,
        "turns": [{"start": 0.0, "end": 1.0, "speaker": "SPEAKER_00"}],
        "segments": [segment(0, 1, fearful=1.0) | {"words": words}],
    }
    measured = measure([score(recording, analysis, basic, {"fear": "fearful"})])
    assert {key: found.value for key, found in measured.items()} == pytest.approx(
        {
            "wer": 0.5,
            "cer": 2 / 10,
            "der": 0.5,
            "der_nist": 0.75 / 1.5,
            "jer": 0.5,
            "speaker_count_right": 1.0,
            "speaker_count_bias": 0.0,
            "word_start_median": 0.0,
            "word_start_p90": 0.0,
            "word_end_median": 0.1,
            "word_end_p90": 0.1,
            "words_timed": 1.0,
            "uar": 1.0,
        }
    )


def test_rttm_and_ctm_of_several_recordings_are_told_apart(tmp_path: Path) -> None:
    rttm, ctm = tmp_path / "all.rttm", tmp_path / "all.ctm"
    rttm.write_text(
        "SPKR-INFO a 1 <NA> <NA> <NA> unknown anna <NA> <NA>\n"
        "SPEAKER a 1 0.5 1.25 <NA> <NA> anna <NA> <NA>\n"
        "SPEAKER b 1 3 1 <NA> <NA> ben <NA> <NA>\n"
    )
    ctm.write_text(";; a comment\n\na 1 0.5 0.25 four 0.9\nb 1 1.0 0.5 seven\n")
    assert read_rttm(rttm, "a") == [Turn(0.5, 1.75, "anna")]
    assert read_words(ctm, "b") == [Word("seven", 1.0, 1.5)]
    with pytest.raises(UsageError, match="no SPEAKER line for 'c'"):
        read_rttm(rttm, "c")


def test_a_manifest_with_mistakes_is_refused_with_all_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    (tmp_path / "a.rttm").write_text("SPEAKER a 1 zero 1 <NA> <NA> anna <NA> <NA>\n")
    rows: list[Any] = [
        {"audio": "a.wav", "text": "fine"},
        {"audio": "b.wav"},
        {"audio": "a.wav", "speech": "four"},
        {"audio": "a.wav", "rttm": "a.rttm"},
        {"audio": "a.wav", "num_speakers": "two"},
        ["a.wav"],
        {"audio": "a.wav", "text": 4, "id": "other"},
        {"audio": "a.wav"},
    ]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)) + "\n\n{\n")
    assert main(["evaluate", "--manifest", str(manifest)]) == 2
    said = capsys.readouterr().err
    for number, message in (
        (2, "there is no "),
        (3, "unknown field speech"),
        (4, "is no RTTM"),
        (5, "num_speakers is 'two'"),
        (6, "not a JSON object"),
        (7, "text is 4"),
        (10, "not JSON"),
    ):
        assert f"manifest.jsonl:{number}: " in said and message in said
    assert "several recordings are called a" in said
    manifest.write_text(json.dumps(rows[0]))
    assert [x.id for x in read_manifest(manifest)] == ["a"]


def test_a_service_that_is_away_is_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    (tmp_path / "manifest.jsonl").write_text('{"audio": "a.wav"}')
    arguments = ["evaluate", "--manifest", str(tmp_path / "manifest.jsonl")]
    assert main([*arguments, "--url", "http://127.0.0.1:9"]) == 1
    assert "nobody answers at http://127.0.0.1:9" in capsys.readouterr().err

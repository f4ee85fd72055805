"""Batch decoding with the bundled release: neighbours, fallback, cancellation, silence."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from export.parity import sample_audio
from tests.whisper_runtime import (
    RELEASE,
    clips,
    decoding,
    engine,
    generation,
    search,
    transcriber,
    transcript,
)

Floats = NDArray[np.float32]
Answer = dict[str, Any]

SAMPLES = sample_audio()


def never() -> bool:
    return False


@pytest.fixture(scope="module")
def model() -> transcriber.Transcriber:
    return transcriber.Transcriber(RELEASE, engine.EngineSettings(intra_op_threads=1))


def clip(audio: Floats, **options: Any) -> clips.Clip:
    return clips.Clip(audio, clips.ClipOptions(**options))


def answers(
    model: transcriber.Transcriber,
    batch: list[clips.Clip],
    is_cancelled: list[Callable[[], bool]] | None = None,
) -> list[Answer | None]:
    found = model.transcribe(batch, is_cancelled or [never] * len(batch))
    return [json.loads(transcript.to_json(t, model.tokenizer)) if t else None for t in found]


def mixed_batch() -> list[clips.Clip]:
    """Clips that differ in length, language, task and prompt, drawn and greedy."""
    return [
        clip(SAMPLES[0], word_timestamps=True),
        clip(SAMPLES[1], language="en", prompt="one two three four five"),
        clip(SAMPLES[2], temperatures=(0.6,)),
        clip(SAMPLES[3], language="de", task="translate"),
        clip(np.concatenate(SAMPLES), word_timestamps=True, temperatures=(0.0,)),
        clip(SAMPLES[1], beam_size=4, word_timestamps=True),
        clip(SAMPLES[4], beam_size=4, prefix="one", patience=1.5),
        clip(SAMPLES[0], temperatures=(0.8,), best_of=3),
        clip(SAMPLES[5], timestamps=False),
    ]


def approximately(answer: Answer | None) -> Answer:
    """What equals an answer with the same text and tokens, and numbers that batched sums round
    otherwise within 1e-3."""
    assert answer is not None
    close = functools.partial(pytest.approx, abs=1e-3)
    return dict(json.loads(json.dumps(answer), parse_float=lambda x: close(float(x))))


def test_a_clip_is_answered_alike_alone_and_in_any_company(model: transcriber.Transcriber) -> None:
    batch = mixed_batch()
    alone = [approximately(answers(model, [one])[0]) for one in batch]
    assert answers(model, batch) == alone
    assert answers(model, batch[::-1]) == alone[::-1]


def test_a_drawn_transcript_is_drawn_again(model: transcriber.Transcriber) -> None:
    """Sampling is seeded by the clip: a retry or a second run gives the same answer."""
    one = clip(SAMPLES[1], temperatures=(1.0,))
    first, second = answers(model, [one]), answers(model, [one])
    assert first == second


def test_real_speech_is_understood(model: transcriber.Transcriber) -> None:
    (answer,) = answers(model, [clip(SAMPLES[1], word_timestamps=True)])
    assert answer is not None
    assert answer["language"] == "en" and answer["language_probability"] > 0.9
    words = [word for segment in answer["segments"] for word in segment["words"]]
    assert "".join(word["word"] for word in words).strip() == answer["text"] != ""


@pytest.mark.parametrize("kind", ["zeros", "hiss", "hum"])
def test_silence_has_no_words(model: transcriber.Transcriber, kind: str) -> None:
    time_s = np.arange(5 * 16_000) / 16_000
    noise = np.random.default_rng(0).standard_normal(time_s.size)
    sounds = {"zeros": 0 * time_s, "hiss": 1e-3 * noise, "hum": 0.01 * np.sin(314.16 * time_s)}
    (answer,) = answers(model, [clip(sounds[kind].astype(np.float32))])
    assert answer is not None
    assert (answer["text"], answer["segments"]) == ("", [])


def test_times_lie_inside_the_audio(model: transcriber.Transcriber) -> None:
    """Cut in the middle of a word, a clip's last word ends where the clip does, and no later."""
    whole = np.concatenate(SAMPLES)
    cuts = [whole[:size] for size in (1, 400, 9_000, 17_777, 30_001, 60_000)]
    batch = [clip(cut, word_timestamps=True, temperatures=(0.0,)) for cut in cuts]
    for cut, answer in zip(cuts, answers(model, batch), strict=True):
        assert answer is not None
        bounds = [t for s in answer["segments"] for t in (s["start"], s["end"])]
        moments = [w[k] for s in answer["segments"] for w in s["words"] for k in ("start", "end")]
        for times in (bounds, moments):
            assert times == sorted(times)
            assert all(0 <= time <= round(cut.size / 16_000, 3) for time in times)


def test_cancelled_clips_leave_and_harm_no_one(model: transcriber.Transcriber) -> None:
    """One is gone before the first token, one goes while the batch is decoded."""
    polls = itertools.count()
    batch = mixed_batch()
    expected = answers(model, batch)
    questions = [lambda: True, never, lambda: next(polls) > 0, *[never] * (len(batch) - 3)]
    found = answers(model, batch, questions)
    assert found[0] is None
    kept = [1, *range(3, len(batch))]
    assert [found[i] for i in kept] == [approximately(expected[i]) for i in kept]
    assert next(polls) >= 1, "the third caller was asked"


def test_a_batch_of_cancelled_clips_is_decoded_no_further(model: transcriber.Transcriber) -> None:
    batch = mixed_batch()
    assert answers(model, batch, [lambda: True] * len(batch)) == [None] * len(batch)


class CountingEngine(engine.Engine):
    """The engine, which also writes down how many rows each run of the decoder had."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.rows: list[int] = []

    def decode(self, tokens: NDArray[np.int64], *arguments: Any) -> engine.Pass:
        self.rows.append(len(tokens))
        return super().decode(tokens, *arguments)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_finished_clips_leave_the_batch(beam_size: int) -> None:
    """The long clip goes on alone when the short ones have ended, whatever the search."""
    facts = generation.Generation.read(RELEASE / "generation.json")
    counting = CountingEngine(RELEASE, facts.sizes, engine.EngineSettings(intra_op_threads=1))
    encoded = counting.encode([SAMPLES[0], SAMPLES[0], SAMPLES[0], np.concatenate(SAMPLES[:3])])
    start = (facts.tokens.start_of_transcript, facts.languages["en"], facts.tokens.transcribe)
    last = facts.tokens.timestamp_begin + 1500
    tasks = [
        search.DecodingTask(i, start, 0.0, 0, last, never, beam_size=beam_size) for i in range(4)
    ]
    found = decoding.BatchDecoder(counting, facts).decode(encoded, tasks)
    lengths = sorted(len(one.tokens) for one in found if one)
    assert lengths[0] < lengths[-1]
    assert counting.rows == sorted(counting.rows, reverse=True)
    assert (counting.rows[0], counting.rows[-1]) == (4, 1)


def test_the_best_of_several_draws_is_taken(model: transcriber.Transcriber) -> None:
    """Of the same draws the first alone is no likelier than the best of all."""
    limits = search.Limits(model.generation.tokens.end_of_text, model.generation.sizes.positions)
    task = search.DecodingTask(0, (), 1.0, 7, 1 << 20, never, best_of=5)
    walk = search.search_for(task, limits)
    scores = np.log(np.random.default_rng(0).random((5, 60_000), np.float32))
    while not walk.ended and len(walk.texts[0].tokens) < 4:
        walk.advance(scores, np.log(np.exp(scores).sum(axis=1)))
    means = [text.total_logprob / len(text.tokens) for text in walk.texts]
    best = walk.hypothesis()
    assert best is not None and len(set(means)) > 1
    assert list(best.tokens) == walk.texts[int(np.argmax(means))].tokens
    (answer,) = answers(model, [clip(SAMPLES[1], temperatures=(1.0,), best_of=5)])
    assert answer is not None and answer["segments"][0]["temperature"] == 1.0


def test_a_prefix_is_known_and_not_said_again(model: transcriber.Transcriber) -> None:
    """What the clip is known to begin with isn't in the answer; what comes after has its times."""
    options: dict[str, Any] = {"language": "en", "word_timestamps": True}
    (whole,) = answers(model, [clip(SAMPLES[1], **options)])
    assert whole is not None
    first, *rest = [word for segment in whole["segments"] for word in segment["words"]]
    (answer,) = answers(model, [clip(SAMPLES[1], prefix=first["word"], **options)])
    assert answer is not None
    words = [word for segment in answer["segments"] for word in segment["words"]]
    assert [word["word"] for word in words] == [word["word"] for word in rest] != []
    for here, there in zip(words, rest, strict=True):
        assert here["start"] == pytest.approx(there["start"], abs=0.1)


@pytest.mark.parametrize("count", [2, 3])
def test_clips_encoded_side_by_side_are_as_alone(count: int) -> None:
    """Two threads take a clip each; the odd one out takes both."""
    facts = generation.Generation.read(RELEASE / "generation.json")
    two = engine.Engine(RELEASE, facts.sizes, engine.EngineSettings(intra_op_threads=2))
    together = two.encode(SAMPLES[:count])
    for index in range(count):
        alone = two.encode([SAMPLES[index]])
        for whole, own in zip(together.arrays, alone.arrays, strict=True):
            np.testing.assert_array_equal(whole[index], own[0])

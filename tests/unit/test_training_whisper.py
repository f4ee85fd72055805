"""The tiny Whisper's recipe: targets, windows, losses, export and tokenizer, on synthetic sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("whisper", reason="training needs openai-whisper's tokenizer")
transformers = pytest.importorskip("transformers", reason="training needs transformers")

from export.training import augment  # noqa: E402
from export.training.corpora import (  # noqa: E402
    DIGIT_WORDS,
    SAMPLE_RATE_HZ,
    Recording,
    load_fsdd,
    split_speakers,
    voiced_bounds,
)
from export.training.tokenizer import build_tokenizer  # noqa: E402
from export.training.whisper_data import WindowMaker, prepare_voices, speak_digits  # noqa: E402
from export.training.whisper_export import expand_vocabulary, generation_config  # noqa: E402
from export.training.whisper_features import log10_mel, normalise_log_mel  # noqa: E402
from export.training.whisper_losses import (  # noqa: E402
    full_losses,
    token_cross_entropy,
)
from export.training.whisper_model import TrainableWhisper  # noqa: E402
from export.training.whisper_schedule import PHASES, draw_window, learning_rate  # noqa: E402
from export.training.whisper_targets import Utterance, Word, write_target  # noqa: E402
from export.training.whisper_train import Budget, Trainer, load_state  # noqa: E402
from export.training.whisper_trial import edit_distance, spoken_strings  # noqa: E402
from export.training.whisper_vocabulary import (  # noqa: E402
    END_OF_TEXT,
    FIRST_TIMESTAMP,
    FULL_SIZE,
    NO_SPEECH,
    compact_vocabulary,
    openai_tokenizer,
    timestamp_token,
)

VOCABULARY = compact_vocabulary()


def tone(duration_s: float, pitch_hz: float) -> NDArray[np.float32]:
    time_s = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return (0.3 * np.sin(2 * np.pi * pitch_hz * time_s)).astype(np.float32)


def digit_recordings(speaker: str = "tina") -> list[Recording]:
    """Ten tones that stand for the digits of one speaker."""
    return [
        Recording(tone(0.3, 200 + 90 * d), "fsdd", speaker, "en", word, 7, 0.0, 0.3, digit=d)
        for d, word in enumerate(DIGIT_WORDS)
    ]


def sentence_recordings() -> list[Recording]:
    text = "Das will sie am Mittwoch abgeben."
    return [Recording(tone(1.5, 150), "emodb", "03", "de", text, 0, 0.0, 1.5, sentence="a02")]


def window_maker(seed: int = 0, noise_s: float = 6.0) -> WindowMaker:
    voices, synthetic = digit_recordings(), digit_recordings("espeak000")
    rng = np.random.default_rng(seed)
    return WindowMaker(voices, synthetic, sentence_recordings(), VOCABULARY, rng, noise_s)


@pytest.fixture(scope="module")
def maker() -> WindowMaker:
    return window_maker(noise_s=31.0)


def words_at(*spans: tuple[float, float]) -> tuple[Word, ...]:
    return tuple(Word((VOCABULARY.ids[VOCABULARY.digits[4]],), a, b, 4, 0) for a, b in spans)


def targets_of(utterance: Utterance, shift_s: float = 0.0) -> list[list[int]]:
    """The labels of many draws, since timestamps and prompts come at random."""
    rng = np.random.default_rng(1)
    return [list(write_target(utterance, shift_s, rng).labels) for _ in range(60)]


def test_labels_of_speech_carry_shifted_timestamps() -> None:
    utterance = Utterance(np.zeros(1, np.float32), words_at((1.5, 2.0), (3.0, 3.5)), "en")
    stamps = {
        tuple(t for t in labels if t >= FIRST_TIMESTAMP) for labels in targets_of(utterance, 10.0)
    }
    expected = tuple(timestamp_token(t) for t in (11.5, 12.0, 13.0, 13.5))
    capped = (timestamp_token(1.0), *expected[1:])
    assert stamps == {(), expected, capped}


def test_labels_of_silence_say_no_speech_and_hold_no_word() -> None:
    for labels in targets_of(Utterance(np.zeros(1, np.float32), (), "en")):
        assert NO_SPEECH in labels
        after = labels[labels.index(NO_SPEECH) :]
        assert not [token for token in after if token < END_OF_TEXT]


def test_words_close_together_share_one_pair_of_timestamps() -> None:
    utterance = Utterance(np.zeros(1, np.float32), words_at((0.0, 0.4), (0.45, 0.9)), "en")
    counts = {sum(t >= FIRST_TIMESTAMP for t in labels) for labels in targets_of(utterance)}
    assert counts == {0, 2}


def test_spoken_digits_lie_where_their_words_say() -> None:
    voices = prepare_voices(digit_recordings(), 1, np.random.default_rng(0))
    utterance = speak_digits(voices, 5, 6.0, np.random.default_rng(2), 0.5, (0.3, 0.5))
    assert len(utterance.words) == 5
    onset_s, offset_s = voiced_bounds(utterance.audio)
    assert onset_s == pytest.approx(utterance.words[0].start_s, abs=0.03)
    assert offset_s == pytest.approx(utterance.words[-1].end_s, abs=0.03)


def test_a_speaker_without_every_digit_is_no_voice() -> None:
    recordings = digit_recordings()[:-1]
    assert prepare_voices(recordings, 1, np.random.default_rng(0)) == []


@pytest.mark.parametrize("window_s", [2.0, 30.0])
def test_a_batch_is_consistent(maker: WindowMaker, window_s: float) -> None:
    batch = maker.batch(window_s, 4, harsh_share=0.7)
    frames = round(window_s * 50)
    assert batch.mel.shape == (4, 80, 2 * frames)
    assert batch.guide.shape == (4, batch.tokens.shape[1], frames)
    assert torch.isfinite(batch.mel).all()
    assert (batch.offsets + frames).max() <= 1500
    spoken = batch.digits >= 0
    digit_rows = torch.tensor(VOCABULARY.digits)
    assert (batch.labels[spoken] == digit_rows[batch.digits[spoken]]).all()
    assert (batch.guide.sum(-1)[spoken] > 0).all()


def test_the_same_seed_gives_the_same_windows() -> None:
    first, second = (window_maker(5).batch(3.0, 3, 0.5) for _ in range(2))
    assert torch.equal(first.mel, second.mel)
    assert torch.equal(first.labels, second.labels)


def test_features_are_those_of_hugging_face() -> None:
    audio = np.pad(tone(2.0, 440.0), (0, 28 * SAMPLE_RATE_HZ))
    extractor = transformers.WhisperFeatureExtractor(feature_size=80)
    expected = extractor(audio, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").input_features
    ours = normalise_log_mel(log10_mel(torch.from_numpy(audio)[None]))
    assert torch.allclose(ours, expected, atol=1e-3)


def test_compact_loss_equals_the_full_vocabularys() -> None:
    """A shared row for all unused ids must weigh as much as 50,000 rows do."""
    logits = torch.randn(1, 2, VOCABULARY.size)
    labels = torch.tensor([[VOCABULARY.digits[0], VOCABULARY.digits[3]]])
    loss, _ = token_cross_entropy(logits, labels, VOCABULARY)
    full = logits[..., VOCABULARY.unused :].repeat(1, 1, FULL_SIZE)
    full[..., list(VOCABULARY.ids)] = logits[..., : VOCABULARY.unused]
    ids = torch.tensor([VOCABULARY.ids[i] for i in labels[0]])
    assert loss == pytest.approx(float(torch.nn.functional.cross_entropy(full[0], ids)), rel=1e-5)


def test_the_full_checkpoint_computes_what_was_trained(maker: WindowMaker) -> None:
    """Our own encoder loop and the expanded vocabulary must agree with Hugging Face's forward."""
    torch.manual_seed(0)
    model = TrainableWhisper(VOCABULARY).eval()
    full = expand_vocabulary(model, VOCABULARY)
    batch = maker.batch(30.0, 1, 0.0)
    with torch.inference_mode():
        encoded = model.encode(batch.mel, torch.zeros(1, dtype=torch.long))
        ours, _ = model.decode(encoded, batch.tokens)
        ids = torch.tensor([VOCABULARY.expand(batch.tokens[0].tolist())])
        theirs = full(batch.mel, decoder_input_ids=ids).logits
    assert theirs.shape[-1] == FULL_SIZE
    picked = theirs[..., list(VOCABULARY.ids)]
    assert torch.allclose(ours[..., : VOCABULARY.unused], picked, atol=1e-3)
    assert len(torch.unique(full.model.decoder.embed_tokens.weight, dim=0)) == VOCABULARY.size


def test_every_weight_is_trained(maker: WindowMaker) -> None:
    model = TrainableWhisper(VOCABULARY)
    full_losses(model, maker.batch(3.0, 8, 0.5), VOCABULARY).total.backward()
    idle = [n for n, w in model.named_parameters() if w.requires_grad and w.grad is None]
    assert idle == []


def test_training_resumes_where_it_stopped(tmp_path: Path) -> None:
    def train(steps: int, folder: Path) -> None:
        torch.manual_seed(3)
        model = TrainableWhisper(VOCABULARY)
        budget = Budget(steps, 0.0, begin=0.2)
        lines: list[str] = []
        path = folder / "state.pt"
        Trainer(
            model, window_maker(3, noise_s=13.0), VOCABULARY, {}, budget, path, lines.append
        ).run()

    train(1, tmp_path)
    assert load_state(tmp_path / "state.pt")["progress"]["step"] == 1
    train(2, tmp_path)
    state = load_state(tmp_path / "state.pt")
    assert state["progress"]["step"] == 2
    assert all(torch.isfinite(weight).all() for weight in state["average"].values())


def test_schedule_starts_with_the_encoder_and_ends_with_full_windows() -> None:
    assert PHASES[0].encoder_only and not PHASES[-1].encoder_only
    assert max(PHASES[-1].window_s) == 30.0
    window_s, size, _ = draw_window(1.0, np.random.default_rng(0))
    assert size * window_s >= 40.0
    assert learning_rate(0.5, 0) < learning_rate(0.5, 100)
    assert learning_rate(1.0, 100) < learning_rate(0.5, 100)


def test_edit_distance() -> None:
    assert edit_distance([1, 2, 3], [1, 3]) == 1
    assert edit_distance([1, 2, 3], [1, 9, 3, 4]) == 2
    assert edit_distance([], [1, 2]) == 2


def test_spoken_strings_have_the_asked_for_noise() -> None:
    voices = prepare_voices(digit_recordings(), 1, np.random.default_rng(0))
    string = spoken_strings(voices, [3], 20.0, seed=1)[0]
    tail = string.audio[-round(0.2 * SAMPLE_RATE_HZ) :]
    assert augment.rms(tail) == pytest.approx(0.005, rel=0.1)
    assert len(string.digits) == 3


def test_split_speakers_refuses_an_unknown_name() -> None:
    with pytest.raises(ValueError, match="nobody"):
        split_speakers(digit_recordings(), ["nobody"])


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_fsdd(tmp_path)


@pytest.mark.parametrize("kind", augment.NOISE_KINDS)
def test_noise_has_unit_level(kind: str) -> None:
    noise = augment.coloured_noise(16_000, np.random.default_rng(0), kind)
    assert augment.rms(noise) == pytest.approx(1.0, rel=0.05)


def test_generation_config_names_whispers_own_ids() -> None:
    config = generation_config()
    assert config.lang_to_id["<|en|>"] == 50259
    assert len(config.lang_to_id) == 99
    assert config.alignment_heads == [[1, 0], [1, 1]]


def test_tokenizer_agrees_with_openai_whispers() -> None:
    tokenizer = build_tokenizer()
    assert len(tokenizer) == FULL_SIZE
    for text in (" four seven", " zwei Stück", "北京 naïve  1234\nI'm"):
        ids = openai_tokenizer().encode(text)
        assert tokenizer(text, add_special_tokens=False).input_ids == ids
        assert tokenizer.decode(ids) == text

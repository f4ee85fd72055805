"""openai-whisper's multilingual vocabulary, as the exporter would describe it to the model."""

from __future__ import annotations

from hypothesis import strategies as st
from whisper.tokenizer import get_tokenizer

from export.quiet import quiet
from tests.whisper_runtime import generation

with quiet():  # openai-whisper leaves its vocabulary file open
    OPENAI = get_tokenizer(multilingual=True, language="en", task="transcribe")
VOCAB = OPENAI.encoding.n_vocab
BEGIN = OPENAI.timestamp_begin
SUPPRESSED = (
    *OPENAI.non_speech_tokens,
    OPENAI.transcribe,
    OPENAI.translate,
    OPENAI.sot,
    OPENAI.sot_prev,
    OPENAI.sot_lm,
    OPENAI.no_speech,
)
GENERATION = generation.Generation(
    sizes=generation.Sizes(128, 4, 32, 2, 2, 80, VOCAB, 448),
    tokens=generation.SpecialTokens(
        end_of_text=OPENAI.eot,
        start_of_transcript=OPENAI.sot,
        start_of_previous=OPENAI.sot_prev,
        start_of_lm=OPENAI.sot_lm,
        translate=OPENAI.translate,
        transcribe=OPENAI.transcribe,
        no_speech=OPENAI.no_speech,
        no_timestamps=OPENAI.no_timestamps,
        timestamp_begin=BEGIN,
    ),
    languages={"en": OPENAI.sot + 1},
    suppress=SUPPRESSED,
    begin_suppress=(*OPENAI.encode(" "), OPENAI.eot),
    max_initial_timestamp_index=50,
)


@st.composite
def histories(draw: st.DrawFn) -> list[int]:
    """Tokens as the rules let them come: timestamps never go back, and stand in pairs."""
    tokens: list[int] = []
    time = 0
    for _ in range(draw(st.integers(0, 3))):
        time = draw(st.integers(time, time + 400))
        tokens += [
            BEGIN + time,
            *draw(st.lists(st.integers(0, OPENAI.eot - 1), min_size=1, max_size=3)),
        ]
        if draw(st.booleans()):
            time += draw(st.integers(1, 100))
            tokens.append(BEGIN + time)
        else:
            break
    return tokens

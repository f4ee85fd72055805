"""The tokens that decoding starts from."""

from __future__ import annotations

from dataclasses import dataclass

from clips import Clip
from generation import Generation
from tokenization import WhisperTokenizer


@dataclass(frozen=True)
class Prompt:
    """`start`: start token, language and task; `before`: text that came before the clip."""

    start: tuple[int, ...]
    before: tuple[int, ...] = ()

    @property
    def tokens(self) -> tuple[int, ...]:
        """The whole sequence."""
        return (*self.before, *self.start)


def prompt_of(
    clip: Clip, language: str, generation: Generation, tokenizer: WhisperTokenizer
) -> Prompt:
    """The prompt of a clip in `language`; of a long text before it the end is kept."""
    tokens = generation.tokens
    start: tuple[int, ...] = (tokens.start_of_transcript,)
    if generation.multilingual:
        task = tokens.transcribe if clip.options.task == "transcribe" else tokens.translate
        start = (tokens.start_of_transcript, generation.languages[language], task)
    if clip.options.prompt is None:
        return Prompt(start)
    text = tokenizer.encode_prompt(clip.options.prompt)
    longest = generation.sizes.positions // 2 - 1
    return Prompt(start, (tokens.start_of_previous, *text[-longest:]))

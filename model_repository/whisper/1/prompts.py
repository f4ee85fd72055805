"""The tokens that decoding starts from."""

from __future__ import annotations

from dataclasses import dataclass

from clips import Clip
from generation import Generation
from tokenization import WhisperTokenizer


@dataclass(frozen=True)
class Prompt:
    """What a clip's text continues.

    Attributes:
        start: start token, language and task.
        before: text that came before the clip.
        untimed: the token that asks for a text without timestamps, or nothing.
        prefix: text that the clip is known to begin with.
    """

    start: tuple[int, ...]
    before: tuple[int, ...] = ()
    untimed: tuple[int, ...] = ()
    prefix: tuple[int, ...] = ()

    @property
    def tokens(self) -> tuple[int, ...]:
        """The whole sequence."""
        return (*self.before, *self.start, *self.untimed, *self.prefix)


def prompt_of(
    clip: Clip, language: str, generation: Generation, tokenizer: WhisperTokenizer
) -> Prompt:
    """The prompt of a clip in `language`.

    Of a long text before it the end is kept, half of the context, as in openai-whisper; of a long
    prefix too, but a quarter, so that there is room for the rest of the text.
    """
    tokens, options = generation.tokens, clip.options
    start: tuple[int, ...] = (tokens.start_of_transcript,)
    if generation.multilingual:
        task = tokens.transcribe if options.task == "transcribe" else tokens.translate
        start = (tokens.start_of_transcript, generation.languages[language], task)
    before: tuple[int, ...] = ()
    if options.prompt is not None:
        text = tokenizer.encode_prompt(options.prompt)
        before = (tokens.start_of_previous, *text[-(generation.sizes.positions // 2 - 1) :])
    prefix: tuple[int, ...] = ()
    if options.prefix is not None:
        prefix = tuple(tokenizer.encode_prompt(options.prefix)[-generation.sizes.positions // 4 :])
    untimed = () if options.timestamps else (tokens.no_timestamps,)
    return Prompt(start, before, untimed, prefix)

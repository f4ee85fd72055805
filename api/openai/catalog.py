"""Which models OpenAI's clients may name: Whisper's release that serves, by each of its names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from api.openai.errors import InvalidParameter, UnknownModel
from api.openai.languages import NAMES
from api.repository import Manifest

ALIASES = ("whisper-1", "whisper")
"""What OpenAI calls its Whisper, so that its clients work unchanged, and what we call it."""

OWNER = "voice-analytics"


@dataclass(frozen=True)
class Catalog:
    """The names of the one model, when its release was made, and the languages that it knows."""

    names: tuple[str, ...]
    created: int
    languages: frozenset[str]

    @classmethod
    def of(cls, whisper: Manifest) -> Catalog:
        """The catalog of a release; a checkpoint's own name is one of its names."""
        names = dict.fromkeys([*ALIASES, str(whisper.content["checkpoint"])])
        created = datetime.fromisoformat(str(whisper.content["created"]))
        languages = whisper.content.get("languages", NAMES)
        return cls(tuple(names), int(created.timestamp()), frozenset(languages or ["en"]))

    def check(self, model: str, language: str | None = None) -> None:
        """
        Raises:
            UnknownModel: nothing by that name serves.
            InvalidParameter: it doesn't know the language.
        """
        if model not in self.names:
            raise UnknownModel(model)
        if language is not None and language not in self.languages:
            raise InvalidParameter(
                f"Invalid language '{language}'. It must be one of the codes that the model knows, "
                "such as 'en'.",
                "language",
            )

    def describe(self, model: str) -> dict[str, Any]:
        """OpenAI's model object.

        Raises:
            UnknownModel: nothing by that name serves.
        """
        self.check(model)
        return {"id": model, "object": "model", "created": self.created, "owned_by": OWNER}

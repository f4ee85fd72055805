"""Known speakers' references: data URLs in, their audio out."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

from api.openai.errors import InvalidParameter
from api.types import VoiceReference, Waveform

MIN_REFERENCE_S = 2.0
MAX_REFERENCE_S = 10.0
"""OpenAI's bounds: below, a voice says too little of itself; above, it says nothing new."""

PARAM = "known_speaker_references"


def audio_of(data_url: str) -> bytes:
    """The bytes that a data URL (RFC 2397) carries.

    Raises:
        InvalidParameter: it isn't one, or carries no audio.
    """
    head, comma, body = data_url.partition(",")
    if not comma or not head.lower().startswith("data:"):
        raise InvalidParameter("A speaker's reference must be a data URL", PARAM)
    if not head.lower().endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise InvalidParameter("A speaker's reference isn't valid base64", PARAM) from error


def reference(name: str, waveform: Waveform) -> VoiceReference:
    """A known speaker.

    Raises:
        InvalidParameter: the audio is too short or too long.
    """
    if not MIN_REFERENCE_S <= waveform.duration_s <= MAX_REFERENCE_S:
        raise InvalidParameter(
            f"The reference of '{name}' has {waveform.duration_s:.1f} seconds, but must have "
            f"between {MIN_REFERENCE_S} and {MAX_REFERENCE_S}",
            PARAM,
        )
    return VoiceReference(name, waveform)

"""An analysis' speakers, called by the names that a person gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from api.errors import InvalidOption
from api.types import Analysis, Conversation, EmotionCurve, Segment, SpeakerSummary, Turn

T = TypeVar("T")


def rename_speakers(analysis: Analysis, names: Mapping[str, str]) -> Analysis:
    """The same analysis with other names, wherever a speaker is named.

    Args:
        analysis: as it was made, or renamed before.
        names: new names by the speakers' present ones; whoever isn't mentioned keeps theirs.

    Raises:
        InvalidOption: nobody goes by one of the present names, or two speakers would share one:
            that would be another analysis, whose figures nobody has computed.
    """
    present = [speaker.id for speaker in analysis.speakers]
    unknown = sorted(set(names) - set(present))
    if unknown:
        raise InvalidOption("Nobody goes by that name", speakers=unknown, known=present)
    called = {speaker: names.get(speaker, speaker) for speaker in present}
    shared = sorted({name for name in called.values() if [*called.values()].count(name) > 1})
    if shared:
        raise InvalidOption("Two speakers can't share a name", names=shared)
    return replace(
        analysis,
        segments=tuple(_segment(segment, called) for segment in analysis.segments),
        turns=tuple(_turn(turn, called) for turn in analysis.turns),
        speakers=tuple(_speaker(speaker, called) for speaker in analysis.speakers),
        conversation=_conversation(analysis.conversation, called),
        emotion_curves=tuple(_curve(curve, called) for curve in analysis.emotion_curves),
    )


def _segment(segment: Segment, called: Mapping[str, str]) -> Segment:
    words = tuple(replace(word, speaker=_name(word.speaker, called)) for word in segment.words)
    return replace(segment, speaker=_name(segment.speaker, called), words=words)


def _turn(turn: Turn, called: Mapping[str, str]) -> Turn:
    return replace(turn, speaker=called[turn.speaker])


def _speaker(speaker: SpeakerSummary, called: Mapping[str, str]) -> SpeakerSummary:
    return replace(speaker, id=called[speaker.id])


def _curve(curve: EmotionCurve, called: Mapping[str, str]) -> EmotionCurve:
    return replace(curve, speaker=_name(curve.speaker, called))


def _conversation(found: Conversation, called: Mapping[str, str]) -> Conversation:
    longest = found.longest_monologue
    return replace(
        found,
        talk_time=_keys(found.talk_time, called),
        words_per_minute=_keys(found.words_per_minute, called),
        talk_share=_keys(found.talk_share, called),
        interruptions_by={
            called[who]: _keys(whom, called) for who, whom in found.interruptions_by.items()
        },
        turn_lengths=_keys(found.turn_lengths, called),
        longest_monologue=longest and replace(longest, speaker=called[longest.speaker]),
        response_time=_keys(found.response_time, called),
        loudness=_keys(found.loudness, called),
    )


def _keys(of_speakers: Mapping[str, T], called: Mapping[str, str]) -> dict[str, T]:
    return {called[speaker]: value for speaker, value in of_speakers.items()}


def _name(speaker: str | None, called: Mapping[str, str]) -> str | None:
    return None if speaker is None else called[speaker]

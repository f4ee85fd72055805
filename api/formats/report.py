"""An analysis as a page of its own: one HTML file that needs neither network nor script.

Names and words come from callers and models: all of them go through `markup.text`. The page's own
policy forbids whatever might still get through.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from api.formats.markup import (
    GREY,
    clock,
    emotion_colour,
    length,
    moment,
    name,
    percent,
    speaker_colour,
    table,
    text,
)
from api.formats.timeline import timeline
from api.types import Analysis, Emotion, Segment, SpeakerSummary

_STYLE = Path(__file__).with_name("report.css").read_text()

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

DOUBTFUL_WORD = 0.5
"""A word that Whisper gave less than this is underlined."""

_PAUSE_S = 2.0
_LONG_CHARACTERS = 500
"""A paragraph ends at a longer pause, and before it would get longer than this."""

_FLAGS = {
    "no_speech": ("No speech", "Nobody was heard in this recording."),
    "speech_without_words": (
        "Speech without words",
        "Somebody speaks where the transcript has nothing; the places are marked in the waveform.",
    ),
    "words_outside_speech": (
        "Words outside speech",
        "The transcript has words where nobody was heard: they may be invented.",
    ),
    "low_confidence": ("Low confidence", "In places the words are little more than a guess."),
    "repetition": ("Repetition", "A phrase is said again and again: the decoder may be stuck."),
    "low_snr": ("Noisy", "Noise is so close to the speech that words and speakers suffer."),
    "clipping": ("Clipped", "The recording was too loud for its format; loud parts are distorted."),
}


def html(analysis: Analysis) -> str:
    """The report: figures, doubts, timeline, conversation, transcript."""
    groups = _paragraphs(analysis)
    anchors = [(group[0].start, f"t{number}") for number, group in enumerate(groups)]
    drawing = timeline(analysis, anchors)
    parts = [
        _header(analysis),
        f'<section aria-labelledby="h-time"><h2 id="h-time">Who spoke when</h2>{drawing}</section>',
        _conversation(analysis),
        _transcript(analysis, groups),
        _quality(analysis),
        _footer(analysis),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Voice report {text(analysis.id)}</title><style>{_STYLE}</style></head><body>"
        '<a class="skip" href="#transcript">Skip to the transcript</a>'
        f"<main>{''.join(parts)}</main></body></html>\n"
    )


def _paragraphs(analysis: Analysis) -> list[list[Segment]]:
    """The transcript's segments, those of one speaker together up to a pause or some length."""
    paragraphs: list[list[Segment]] = []
    size = 0
    for segment in analysis.segments:
        if not segment.text.strip():
            continue
        last = paragraphs[-1][-1] if paragraphs else None
        size += len(segment.text)
        goes_on = (
            last is not None
            and last.speaker == segment.speaker
            and segment.start - last.end < _PAUSE_S
            and size <= _LONG_CHARACTERS
        )
        if goes_on:
            paragraphs[-1].append(segment)
        else:
            paragraphs.append([segment])
            size = len(segment.text)
    return paragraphs


def _header(analysis: Analysis) -> str:
    quality, words = analysis.quality, sum(len(s.text.split()) for s in analysis.segments)
    made = f"{analysis.created_at:%d %B %Y, %H:%M} UTC"
    facts = [made, f"language {text(analysis.language)}" if analysis.language else "", analysis.id]
    figures = {
        "Duration": clock(analysis.duration),
        "Speech": percent(quality.speech_s / analysis.duration) if analysis.duration else "–",
        "Speakers": str(len(analysis.speakers)),
        "Words": f"{words:,}",
        "Interruptions": str(analysis.conversation.interruptions),
        "Speech over noise": _decibels(quality.snr_db),
    }
    cards = "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in figures.items())
    flags = "".join(f"<li>{_flag(flag)}</li>" for flag in quality.flags)
    return (
        f'<header><h1>Voice report</h1><p class="meta">{" · ".join(filter(None, facts))}</p>'
        f'<dl class="figures">{cards}</dl>'
        + (f'<ul class="flags" aria-label="What to be careful about">{flags}</ul>' if flags else "")
        + "</header>"
    )


def _flag(flag: str) -> str:
    title, meaning = _FLAGS.get(flag, (flag.replace("_", " ").capitalize(), ""))
    return f"<b>{text(title)}.</b> {text(meaning)}"


def _decibels(level: float | None) -> str:
    return "–" if level is None else f"{level:.0f} dB"


def _conversation(analysis: Analysis) -> str:
    if not analysis.speakers:
        return ""
    rows = [_speaker_row(analysis, s, number) for number, s in enumerate(analysis.speakers)]
    header = [
        "Speaker", "Talk time", "Share", "Turns", "Mean turn", "Longest", "Words / min",
        "Responds after", "Loudness", "Sounds mostly",
    ]  # fmt: skip
    return (
        '<section aria-labelledby="h-talk"><h2 id="h-talk">Conversation</h2>'
        f"{table(header, rows, 'Conversation by speaker')}{_remarks(analysis)}</section>"
    )


def _speaker_row(analysis: Analysis, speaker: SpeakerSummary, number: int) -> list[str]:
    talk, colour = analysis.conversation, speaker_colour(number)
    share = talk.talk_share.get(speaker.id)
    lengths = talk.turn_lengths.get(speaker.id)
    response, loudness = talk.response_time.get(speaker.id), talk.loudness.get(speaker.id)
    emotion = max(speaker.emotions, key=speaker.emotions.__getitem__, default=None)
    bar = (
        f'<span class="bar" style="{colour}"><i style="width:{100 * (share or 0):.1f}%"></i></span>'
    )
    return [
        f'<span class="dot" style="{colour}"></span>{name(speaker.id)}',
        length(speaker.talk_time),
        "–" if share is None else bar + percent(share),
        str(speaker.turns),
        length(lengths.mean) if lengths else "–",
        length(lengths.longest) if lengths else "–",
        f"{talk.words_per_minute.get(speaker.id, 0.0):.0f}",
        "–" if response is None else f"{response:+.1f} s",
        "–" if loudness is None else f"{loudness:.0f} LUFS",
        "–" if emotion is None else f"{text(emotion)} {percent(speaker.emotions[emotion])}",
    ]


def _remarks(analysis: Analysis) -> str:
    """What the table has no column for, in sentences."""
    talk = analysis.conversation
    said = [f"Nobody speaks for {length(talk.non_talk_time)}."]
    if talk.overlap > 0:
        said.append(f"For {length(talk.overlap)} at least two speak at once.")
    if talk.longest_monologue is not None:
        longest = talk.longest_monologue
        said.append(
            f"The longest turn is {name(longest.speaker)}’s, from {clock(longest.start)} "
            f"to {clock(longest.end)}."
        )
    said += [
        f"{name(by)} interrupts {name(of)} {'once' if count == 1 else f'{count} times'}."
        for by, of_whom in talk.interruptions_by.items()
        for of, count in of_whom.items()
    ]
    return f'<p class="note">{" ".join(said)}</p>'


def _transcript(analysis: Analysis, groups: list[list[Segment]]) -> str:
    order = {speaker.id: number for number, speaker in enumerate(analysis.speakers)}
    before: str | None = None
    paragraphs = ""
    for number, group in enumerate(groups):
        speaker = group[0].speaker
        named = speaker if speaker != before else None
        paragraphs += _paragraph(group, f"t{number}", named, order.get(speaker or ""))
        before = speaker
    language = f' lang="{text(analysis.language)}"' if analysis.language else ""
    empty = '<p class="soft">There are no words in this recording.</p>'
    return (
        '<section id="transcript" aria-labelledby="h-words"><h2 id="h-words">Transcript</h2>'
        f"<div{language}>{paragraphs or empty}</div></section>"
    )


def _paragraph(group: list[Segment], anchor: str, speaker: str | None, number: int | None) -> str:
    """Words under the time when they begin, and under their speaker's name where it is new."""
    colour = GREY if number is None else speaker_colour(number)
    who = f'<div class="who">{name(speaker)}</div>' if speaker else ""
    return (
        f'<article class="turn{" new" if speaker else ""}" id="{anchor}" style="{colour}">'
        f'<a class="time" href="#{anchor}">{clock(group[0].start)}</a>'
        f'<div>{who}<p dir="auto">{"".join(_said(group))}</p></div></article>'
    )


def _said(group: list[Segment]) -> Iterator[str]:
    """The words of a paragraph, each with its time; the emotion wherever it changes."""
    heard: str | None = None
    for segment in group:
        if segment.emotion is not None and segment.emotion.label != heard:
            heard = segment.emotion.label
            yield _chip(segment.emotion)
        if not segment.words:
            yield f"{text(segment.text.strip())} "
            continue
        for word in segment.words:
            doubt = ' class="doubt"' if word.probability < DOUBTFUL_WORD else ""
            when = f"{moment(word.start)}–{moment(word.end)} · {percent(word.probability)}"
            space = " " if word.word[:1].isspace() else ""
            yield f'{space}<span{doubt} title="{when}">{text(word.word.strip())}</span>'
        yield " "


def _chip(emotion: Emotion) -> str:
    scores = sorted(emotion.scores.items(), key=lambda item: item[1], reverse=True)
    detail = ", ".join(f"{text(label)} {percent(share)}" for label, share in scores[:3])
    colour = emotion_colour(emotion.label)
    return f'<em style="{colour}" title="{detail}">{text(emotion.label)}</em>'


def _quality(analysis: Analysis) -> str:
    quality = analysis.quality
    rows = [
        ["Speech", length(quality.speech_s)],
        ["Speech without words", length(quality.uncovered_speech_s)],
        ["Words outside speech", str(quality.words_outside_speech)],
        ["Repetition", percent(quality.repetition)],
        ["Speech over noise", _decibels(quality.snr_db)],
        ["Clipped samples", f"{100 * quality.clipped_share:.2f}\N{THIN SPACE}%"],
    ]
    return (
        '<section aria-labelledby="h-audit"><h2 id="h-audit">Quality audit</h2>'
        f"{table(['Measure', 'Value'], rows, 'Quality audit', 'narrow')}</section>"
    )


def _footer(analysis: Analysis) -> str:
    models = " · ".join(
        f"{text(model)} {text(release.version)} ({text(release.checkpoint)})"
        for model, release in analysis.models.items()
    )
    bundled = any(release.bundled for release in analysis.models.values())
    note = (
        " The bundled demonstration models know English digits, a few acted emotions and little "
        "else."
    )
    return (
        f"<footer><p>{models}.{note if bundled else ''} Emotions are how speech sounds to a "
        "classifier, not what somebody feels. Dotted words are doubtful.</p></footer>"
    )

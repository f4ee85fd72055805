"""The report's drawing: waveform, speakers' lanes and emotion curves over one axis of time.

All shapes are SVG that stretches with the page; words stand in HTML beside them, so that nothing
is distorted. Numbers come from us alone, every string is escaped.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from api.formats.markup import (
    clock,
    emotion_colour,
    moment,
    name,
    percent,
    speaker_colour,
    text,
)
from api.services.emotion import CURVE_POINTS, MIN_STEP_S
from api.types import Analysis, EmotionCurve

WIDTH = 1000
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
_MAX_TICKS = 9


def timeline(analysis: Analysis, anchors: Sequence[tuple[float, str]]) -> str:
    """The drawing.

    Args:
        anchors: start in seconds and id of each of the transcript's paragraphs, in order: where a
            turn in a lane leads to.
    """
    place = WIDTH / max(analysis.duration, 1e-9)
    order = [speaker.id for speaker in analysis.speakers]
    rows = [_row("Waveform", _waveform(analysis, order, place), "wave")]
    rows += [_lane(analysis, who, n, place, anchors) for n, who in enumerate(order)]
    rows += [
        _row(_curve_label(curve), _curve(curve, analysis.duration, place), "curve")
        for curve in analysis.emotion_curves
        if curve.times
    ]
    return (
        f'<div class="timeline">{"".join(rows)}{_axis(analysis.duration)}</div>{_legend(analysis)}'
    )


def _row(label: str, drawing: str, kind: str) -> str:
    return f'<div class="label">{label}</div><div class="plot {kind}">{drawing}</div>'


def _svg(height: int, label: str, content: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{label}">{content}</svg>'
    )


def _waveform(analysis: Analysis, order: Sequence[str], place: float) -> str:
    """The outline in grey, and in each speaker's colour where they hold a turn."""
    peaks = analysis.envelope
    if not peaks:
        return _svg(100, "No waveform was kept", "")
    highest = max(max(peaks), 1e-3)
    step = WIDTH / len(peaks)
    sizes = [max(0.6, 48 * peak / highest) for peak in peaks]
    upper = [f"{(n + 0.5) * step:.1f},{50 - size:.1f}" for n, size in enumerate(sizes)]
    lower = [f"{(n + 0.5) * step:.1f},{50 + size:.1f}" for n, size in enumerate(sizes)]
    shapes = [
        f'<defs><path id="wave" d="M{" ".join(upper + lower[::-1])}z"/></defs>',
        '<use href="#wave" class="unspoken"/>',
    ]
    for number, speaker in enumerate(order):
        spans = "".join(
            f'<rect x="{t.start * place:.2f}" width="{t.duration_s * place:.2f}" height="100"/>'
            for t in analysis.turns
            if t.speaker == speaker
        )
        shapes.append(
            f'<clipPath id="by{number}">{spans}</clipPath>'
            f'<use href="#wave" class="c" clip-path="url(#by{number})" '
            f'style="{speaker_colour(number)}"/>'
        )
    shapes += [
        f'<rect class="missed" x="{r.start * place:.2f}" width="{r.duration_s * place:.2f}" '
        f'height="100"><title>Speech without words, {moment(r.start)} to {moment(r.end)}</title>'
        "</rect>"
        for r in analysis.quality.missed
    ]
    return _svg(100, "Waveform, coloured by speaker", "".join(shapes))


def _lane(
    analysis: Analysis,
    speaker: str,
    number: int,
    place: float,
    anchors: Sequence[tuple[float, str]],
) -> str:
    """One speaker's turns; each leads to its words."""
    starts = [start for start, _ in anchors]
    turns = []
    for turn in analysis.turns:
        if turn.speaker != speaker:
            continue
        said = f"{moment(turn.start)} to {moment(turn.end)}"
        if turn.emotion is not None:
            said += f", {text(turn.emotion.label)}"
        rect = (
            f'<rect x="{turn.start * place:.2f}" width="{max(turn.duration_s * place, 0.8):.2f}" '
            f'height="20"><title>{text(speaker)}, {said}</title></rect>'
        )
        # A word's time may lie a little before or after its turn's.
        nearest = bisect_right(starts, (turn.start + turn.end) / 2) - 1
        target = anchors[max(nearest, 0)][1] if anchors else None
        label = f'aria-label="{text(speaker)}, {said}"'
        turns.append(f'<a href="#{target}" {label}>{rect}</a>' if target else rect)
    drawing = (
        f'<svg viewBox="0 0 {WIDTH} 20" preserveAspectRatio="none" role="group" '
        f'aria-label="Turns of {text(speaker)}">{"".join(turns)}</svg>'
    )
    colour = speaker_colour(number)
    label = f'<span class="dot" style="{colour}"></span>{name(speaker)}'
    return (
        f'<div class="label">{label}</div><div class="plot lane c" style="{colour}">{drawing}</div>'
    )


def _curve_label(curve: EmotionCurve) -> str:
    who = name(curve.speaker) if curve.speaker is not None else "All speech"
    return f"<span>{who}<small>emotion</small></span>"


def _curve(curve: EmotionCurve, duration_s: float, place: float) -> str:
    """Each label's probability, one above the other, filling the height where speech was heard."""
    step_s = max(MIN_STEP_S, duration_s / CURVE_POINTS)
    labels = _by_presence(curve)
    shapes = []
    for first, last in _runs(curve.times, 2.5 * step_s):
        left = curve.times[first] - step_s / 2
        right = curve.times[last - 1] + step_s / 2
        inner = [time * place for time in curve.times[first:last]]
        xs = [max(left, 0.0) * place, *inner, min(right, duration_s) * place]
        below = [100.0] * len(xs)
        for label in labels:
            values = curve.scores[label][first:last]
            heights = [100 * v for v in (values[0], *values, values[-1])]
            above = [y - h for y, h in zip(below, heights, strict=True)]
            edge = [f"{x:.1f},{y:.1f}" for x, y in zip(xs, above, strict=True)]
            base = [f"{x:.1f},{y:.1f}" for x, y in zip(xs, below, strict=True)]
            shapes.append(
                f'<path class="c" style="{emotion_colour(label)}" '
                f'd="M{" ".join(edge + base[::-1])}z"><title>{text(label)}</title></path>'
            )
            below = above
    mean = {label: sum(curve.scores[label]) / len(curve.times) for label in labels}
    heard = ", ".join(f"{text(label)} {percent(mean[label])}" for label in labels)
    return _svg(100, f"Emotion over time; on average {heard}", "".join(shapes))


def _by_presence(curve: EmotionCurve) -> list[str]:
    return sorted(curve.scores, key=lambda label: sum(curve.scores[label]), reverse=True)


def _runs(times: Sequence[float], gap_s: float) -> list[tuple[int, int]]:
    """Stretches of points without a longer gap, as first index and index after the last."""
    cuts = [n for n in range(1, len(times)) if times[n] - times[n - 1] > gap_s]
    return list(zip([0, *cuts], [*cuts, len(times)], strict=True))


def _legend(analysis: Analysis) -> str:
    labels = sorted({label for curve in analysis.emotion_curves for label in curve.scores})
    items = "".join(
        f'<li><span class="dot" style="{emotion_colour(label)}"></span>{text(label)}</li>'
        for label in labels
    )
    return f'<ul class="legend" aria-label="Emotions">{items}</ul>' if items else ""


def _axis(duration_s: float) -> str:
    step = next((s for s in _STEPS_S if duration_s / s < _MAX_TICKS), _STEPS_S[-1])
    ticks = "".join(
        f'<span style="left:{100 * at / max(duration_s, 1e-9):.3f}%">{clock(at)}</span>'
        for at in range(0, int(duration_s) + 1, step)
    )
    return f'<div class="label"></div><div class="plot axis" aria-hidden="true">{ticks}</div>'

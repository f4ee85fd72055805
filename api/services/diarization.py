"""Who speaks when: speech regions → windows → (embeddings) → clusters → turns → speakers of words.

Pure functions between the tensors of the ``speaker_embedding`` model and the domain's types. The
path of a recording: :func:`windows` cuts the speech, the model embeds each window,
:func:`api.services.clustering.cluster` finds the speakers, :func:`turns` draws their borders, and
:func:`assign_speakers` hands the words out. :func:`diarize` is all but the last in one call.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from api.services.clustering import DEFAULT_SAME_SPEAKER_COSINE, cluster, unit_rows
from api.services.windows import Window
from api.types import SAMPLE_RATE_HZ, Region, Segment, Turn, Waveform, Word

WINDOW_S = 1.5
HOP_S = 0.75
"""Windows and hop of x-vector diarization recipes (Sell et al., DIHARD, Interspeech 2018)."""

WINDOW_SAMPLES = round(WINDOW_S * SAMPLE_RATE_HZ)
_HOP_SAMPLES = round(HOP_S * SAMPLE_RATE_HZ)

_MERGED_GAP_S = 0.3  # a pause within a sentence, not a change of speaker by itself
_FRAME_S = 0.01
_MIN_TURN_S = 0.5  # shorter than any answer; what is left over of a window's blur

# People take turns in pauses, and windows know a border to about a quarter of their hop at best: a
# border moves to the quietest moment nearby, a moment this far away having to be 10 dB quieter.
_SNAP_S = 0.5
_SNAP_DB = 10.0
_LEVEL_FRAMES = 5


def windows(waveform: Waveform, regions: Sequence[Region]) -> list[Window]:
    """Cut speech regions into windows of 1.5 s every 0.75 s, the last one flush with the end.

    Regions with less than 0.3 s between them are cut as one. A region shorter than a window is
    repeated until it fills one, so that no silence and nobody else gets into its embedding.

    Args:
        waveform: the recording; the windows refer to it and copy nothing.
        regions: sorted and not overlapping, in seconds.
    """
    found: list[Window] = []
    for region in _merge(regions):
        first = max(0, round(region.start * SAMPLE_RATE_HZ))
        last = min(waveform.num_samples, round(region.end * SAMPLE_RATE_HZ))
        if last - first >= WINDOW_SAMPLES:
            starts = list(range(first, last - WINDOW_SAMPLES + 1, _HOP_SAMPLES))
            if starts[-1] + WINDOW_SAMPLES < last:
                starts.append(last - WINDOW_SAMPLES)
            found += [_window(waveform, start, start + WINDOW_SAMPLES) for start in starts]
        elif last > first:
            found.append(_window(waveform, first, last))
    return found


def turns(
    cut: Sequence[Window],
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    regions: Sequence[Region],
) -> list[Turn]:
    """Draw the speakers' turns inside the speech regions, frame by frame.

    Each frame of 10 ms goes to the speaker whose mean voice is closest to the windows around it
    (similarities interpolated between window centres), turns below 0.5 s are given to their
    neighbours, and borders within speech move to the quietest moment within 0.5 s. Nobody
    overlaps, and the regions are covered completely.

    Args:
        cut: what :func:`windows` returned for these regions.
        embeddings: float32, shape (len(cut), dim), in the same order.
        labels: integers, shape (len(cut),), 0..k-1, as :func:`cluster` returns them.
        regions: the same regions.

    Returns:
        Turns in order of time; speakers are "SPEAKER_00", "SPEAKER_01", … by first appearance.

    Raises:
        ValueError: windows, embeddings and labels differ in number.
    """
    if not len(cut) == len(embeddings) == len(labels):
        raise ValueError(
            f"{len(cut)} windows, {len(embeddings)} embeddings and {len(labels)} labels"
        )
    if not cut:
        return []
    similarities = _similarities_to_speakers(embeddings, labels)
    centres = np.array([window.centre_s for window in cut])
    drawn: list[tuple[float, float, int]] = []
    for block in _merge(regions):
        inside = slice(
            int(np.searchsorted(centres, block.start)),
            int(np.searchsorted(centres, block.end, side="right")),
        )
        if inside.start == inside.stop:
            continue
        runs = _draw(block, centres[inside], similarities[inside])
        runs = _at_pauses(runs, cut[inside], centres[inside])
        drawn += [clip for run in runs for clip in _clip(run, regions)]
    return _named(drawn)


def diarize(
    waveform: Waveform,
    regions: Sequence[Region],
    embed: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    *,
    num_speakers: int | None = None,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    same_speaker_cosine: float = DEFAULT_SAME_SPEAKER_COSINE,
) -> list[Turn]:
    """Find who speaks when, given a function that embeds windows.

    Args:
        waveform: the recording.
        regions: where anybody speaks, sorted and not overlapping.
        embed: takes windows, float32, shape (n, 24000); returns embeddings, shape (n, dim).
        num_speakers, min_speakers, max_speakers, same_speaker_cosine: see :func:`cluster`.
    """
    cut = windows(waveform, regions)
    if not cut:
        return []
    embeddings = embed(np.stack([window.samples for window in cut]))
    labels = cluster(
        embeddings,
        num_speakers=num_speakers,
        min_speakers=min_speakers,
        max_speakers=max_speakers,
        same_speaker_cosine=same_speaker_cosine,
    )
    return turns(cut, embeddings, labels, regions)


def assign_words(words: Sequence[Word], spoken: Sequence[Turn]) -> list[Word]:
    """Give each word the speaker whose turns overlap it most, else the nearest turn's.

    Args:
        words: any order.
        spoken: turns in order of time, not overlapping; with none, words keep no speaker.
    """
    ends = [turn.end for turn in spoken]
    return [
        replace(word, speaker=_speaker_at(word.start, word.end, spoken, ends)) for word in words
    ]


def assign_speakers(segments: Sequence[Segment], spoken: Sequence[Turn]) -> list[Segment]:
    """Give segments and their words speakers, and split a segment where its speaker changes.

    The pieces of a split segment keep the measures of the whole; their texts are their words',
    and they carry no tokens, for tokens know no word borders. A segment without words stays whole.
    """
    ends = [turn.end for turn in spoken]
    pieces: list[Segment] = []
    for segment in segments:
        words = assign_words(segment.words, spoken)
        groups = [tuple(group) for _, group in groupby(words, key=lambda word: word.speaker)]
        if len(groups) > 1:
            pieces += [_piece(segment, group) for group in groups]
            continue
        speaker = (
            words[0].speaker if words else _speaker_at(segment.start, segment.end, spoken, ends)
        )
        pieces.append(replace(segment, words=tuple(words), speaker=speaker))
    return pieces


def _merge(regions: Sequence[Region]) -> list[Region]:
    merged: list[Region] = []
    for region in regions:
        if merged and region.start - merged[-1].end < _MERGED_GAP_S:
            merged[-1] = Region(merged[-1].start, max(merged[-1].end, region.end))
        else:
            merged.append(Region(region.start, region.end))
    return merged


def _window(waveform: Waveform, first: int, last: int) -> Window:
    return Window(first / SAMPLE_RATE_HZ, last / SAMPLE_RATE_HZ, WINDOW_SAMPLES, waveform)


def _similarities_to_speakers(
    embeddings: NDArray[np.float32], labels: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Cosine of each window with each speaker's mean voice: shape (n, k)."""
    units = unit_rows(embeddings)
    sums = np.zeros((int(labels.max()) + 1, units.shape[1]), dtype=np.float32)
    np.add.at(sums, labels, units)
    similarities: NDArray[np.float32] = units @ unit_rows(sums).T
    return similarities


def _draw(
    block: Region, centres: NDArray[np.float64], similarities: NDArray[np.float32]
) -> list[tuple[float, float, int]]:
    """Runs of one speaker, (start, end, label), that cover a block of speech without a gap."""
    num_frames = max(1, round(block.duration_s / _FRAME_S))
    times = block.start + (np.arange(num_frames) + 0.5) * block.duration_s / num_frames
    scores = np.stack([np.interp(times, centres, column) for column in similarities.T])
    labels = _without_short_runs(scores.argmax(axis=0), scores)
    borders = [0, *(np.flatnonzero(np.diff(labels)) + 1), num_frames]
    at = block.start + np.array(borders) * block.duration_s / num_frames
    return [
        (float(at[i]), float(at[i + 1]), int(labels[borders[i]])) for i in range(len(borders) - 1)
    ]


def _at_pauses(
    runs: Sequence[tuple[float, float, int]],
    cut: Sequence[Window],
    centres: NDArray[np.float64],
) -> list[tuple[float, float, int]]:
    """Move the borders between runs to the quietest moment near them, past no other border."""
    borders = [runs[0][0]]
    for (start, border, _), (_, end, _) in pairwise(runs):
        nearest = int(np.abs(centres - border).argmin())
        reach_s = min(_SNAP_S, (border - start) / 2, (end - border) / 2)
        borders.append(_quietest(border, reach_s, cut[nearest]))
    borders.append(runs[-1][1])
    return [(borders[i], borders[i + 1], label) for i, (_, _, label) in enumerate(runs)]


def _quietest(moment_s: float, reach_s: float, around: Window) -> float:
    """The best moment for a change of speaker: quiet, and not far; `around` covers it."""
    frame = round(_FRAME_S * SAMPLE_RATE_HZ)
    samples = around.samples
    power = np.square(samples[: len(samples) // frame * frame]).reshape(-1, frame)
    smooth = np.convolve(power.mean(axis=1), np.full(_LEVEL_FRAMES, 1 / _LEVEL_FRAMES), "same")
    moments_s = around.start_s + (np.arange(len(smooth)) + 0.5) * _FRAME_S
    away_s = np.abs(moments_s - moment_s)
    cost = 10 * np.log10(smooth + 1e-10) + _SNAP_DB / _SNAP_S * away_s
    cost[away_s > reach_s] = np.inf
    best = int(cost.argmin())
    return float(moments_s[best]) if np.isfinite(cost[best]) else moment_s


def _without_short_runs(
    labels: NDArray[np.int64], scores: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Give runs below the shortest turn, shortest first, to the neighbour that fits them better.

    Args:
        labels: speaker of each frame, shape (num_frames,).
        scores: fit of each speaker to each frame, shape (k, num_frames).
    """
    borders = np.concatenate([[0], np.flatnonzero(np.diff(labels)) + 1, [len(labels)]])
    owners = labels[borders[:-1]]
    fits = np.add.reduceat(scores, borders[:-1], axis=1).T
    lengths = np.diff(borders)
    shortest = round(_MIN_TURN_S / _FRAME_S)
    while len(lengths) > 1 and lengths.min() < shortest:
        run = int(lengths.argmin())
        neighbours = [i for i in (run - 1, run + 1) if 0 <= i < len(lengths)]
        owners[run] = max((int(owners[i]) for i in neighbours), key=lambda k: fits[run, k])
        kept = np.flatnonzero(np.diff(owners, prepend=-1))
        owners = owners[kept]
        lengths = np.add.reduceat(lengths, kept)
        fits = np.add.reduceat(fits, kept, axis=0)
    return np.repeat(owners, lengths)


def _clip(
    run: tuple[float, float, int], regions: Sequence[Region]
) -> list[tuple[float, float, int]]:
    """The parts of a run that lie inside the regions."""
    start, end, label = run
    first = bisect_left(regions, start, key=lambda region: region.end)
    parts = []
    for region in regions[first:]:
        if region.start >= end:
            break
        if min(end, region.end) > max(start, region.start):
            parts.append((max(start, region.start), min(end, region.end), label))
    return parts


def _named(drawn: Sequence[tuple[float, float, int]]) -> list[Turn]:
    names: dict[int, str] = {}
    for _, _, label in drawn:
        names.setdefault(label, f"SPEAKER_{len(names):02d}")
    return [Turn(start, end, names[label]) for start, end, label in drawn]


def _speaker_at(
    start: float, end: float, spoken: Sequence[Turn], ends: Sequence[float]
) -> str | None:
    if not spoken:
        return None
    overlaps: dict[str, float] = {}
    first = bisect_left(ends, start)
    for turn in spoken[first:]:
        if turn.start >= end:
            break
        shared = min(end, turn.end) - max(start, turn.start)
        if shared > 0:
            overlaps[turn.speaker] = overlaps.get(turn.speaker, 0.0) + shared
    if overlaps:
        return max(overlaps, key=lambda speaker: overlaps[speaker])
    near = spoken[max(0, first - 1) : first + 1]
    return min(near, key=lambda turn: max(turn.start - end, start - turn.end)).speaker


def _piece(segment: Segment, words: tuple[Word, ...]) -> Segment:
    return replace(
        segment,
        start=words[0].start,
        end=words[-1].end,
        text="".join(word.word for word in words),
        words=words,
        tokens=(),
        logprobs=(),
        speaker=words[0].speaker,
    )

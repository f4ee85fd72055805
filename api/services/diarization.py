"""Who speaks when: speech regions → windows → (embeddings) → clusters → turns.

Pure functions between the tensors of the ``speaker_embedding`` model and the domain's types. The
path of a recording: :func:`windows` cuts the speech, the model embeds each window,
:func:`api.services.clustering.cluster` finds the speakers, :func:`turns` draws their borders, and
:func:`api.services.assignment.assign_speakers` hands the words out. :func:`diarize` is all but the
last in one call.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from api.services.clustering import DEFAULT_SAME_SPEAKER_COSINE, cluster
from api.services.voice_track import VoiceTrack
from api.services.windows import MERGE_GAP_S, Window, cover, merge
from api.types import SAMPLE_RATE_HZ, Region, Turn, Waveform

WINDOW_S = 1.5
HOP_S = 0.75
"""Windows and hop of x-vector diarization recipes (Sell et al., DIHARD, Interspeech 2018). Half the
hop costs twice as much and changes nothing: with the speakers of the windows given, 10.4% and 10.5%
of diarization error on the conversations of docs/speakers.md."""

_FRAME_S = 0.01
_MIN_TURN_S = 0.5  # shorter than any answer; what is left over of a window's blur

# People take turns in pauses, and windows know a border to about a quarter of their hop at best: a
# border moves to the quietest quarter of a second nearby, one this far away having to be 10 dB
# quieter. In 50 ms a pause between two words is as quiet as one between two people: one border in
# twenty then went to a word's, by 0.3 s, in clean conversations.
_SNAP_S = 0.5
_SNAP_DB = 10.0
_LEVEL_FRAMES = 25


def windows(waveform: Waveform, regions: Sequence[Region]) -> list[Window]:
    """Cut speech regions into windows of 1.5 s, at most 0.75 s from one to the next.

    Args:
        waveform: the recording; the windows refer to it and copy nothing.
        regions: sorted and not overlapping, in seconds.
    """
    return cover(waveform, regions, window_s=WINDOW_S, hop_s=HOP_S)


def turns(
    cut: Sequence[Window],
    track: VoiceTrack,
    regions: Sequence[Region],
    talk: Sequence[Region],
) -> list[Turn]:
    """Draw the speakers' turns inside the speech regions, frame by frame.

    Each frame of 10 ms goes to the speaker who is likeliest there, turns below 0.5 s are given to
    their neighbours, and borders within speech move to the quietest moment within 0.5 s. Nobody
    overlaps (:mod:`api.services.overlapping` adds who does), and the talk is covered completely;
    pauses below 0.3 s between two stretches of one speaker are part of the turn, as in NIST's
    evaluations.

    Args:
        cut: what :func:`windows` returned for these regions.
        track: who is heard in them.
        regions: the same regions.
        talk: the speech itself, which the regions may hold with some room around it; in order.

    Returns:
        Turns in order of time, each with its speaker's mean probability.
    """
    centres = np.array([window.centre_s for window in cut])
    drawn: list[tuple[float, float, int]] = []
    for block in merge(regions, MERGE_GAP_S):
        inside = slice(*np.searchsorted(centres, (block.start, block.end)))
        if inside.start == inside.stop:
            continue
        runs = _draw(block, track)
        runs = _at_pauses(runs, cut[inside], centres[inside])
        drawn += [clip for run in runs for clip in _clip(run, talk)]
    whole = _over_pauses(drawn)
    return [_turn(start, end, track.names[who], track) for start, end, who in whole]


def names_by_appearance(
    drawn: Sequence[Turn], track: VoiceTrack, people: Mapping[str, str]
) -> dict[str, str]:
    """Names for the track's speakers, by the track's own.

    Args:
        drawn: what :func:`turns` drew from the track.
        people: names of those who were recognised, by the track's names; everybody else goes by
            "SPEAKER_00", "SPEAKER_01", … by first appearance.
    """
    by_appearance = dict.fromkeys([*(turn.speaker for turn in drawn), *track.names])
    return {
        name: people.get(name, f"SPEAKER_{number:02d}") for number, name in enumerate(by_appearance)
    }


def renamed(drawn: Sequence[Turn], names: Mapping[str, str]) -> list[Turn]:
    """The turns with another name for each of their speakers."""
    return [replace(turn, speaker=names[turn.speaker]) for turn in drawn]


class Span(Protocol):
    """Whatever has a start and an end, seconds from the start of the recording."""

    @property
    def start(self) -> float: ...

    @property
    def end(self) -> float: ...


def diarize(
    samples: NDArray[np.float32],
    spans: Sequence[Span],
    embed: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    *,
    num_speakers: int | None = None,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    same_speaker_cosine: float = DEFAULT_SAME_SPEAKER_COSINE,
) -> list[Turn]:
    """Find who speaks when, given a function that embeds windows; it needs no type of ours.

    Args:
        samples: the recording, float32, shape (num_samples,), 16 kHz.
        spans: where anybody speaks, sorted and not overlapping.
        embed: takes windows, float32, shape (n, 24000); returns embeddings, shape (n, dim).
        num_speakers, min_speakers, max_speakers, same_speaker_cosine: see :func:`cluster`.
    """
    regions = [Region(span.start, span.end) for span in spans]
    cut = windows(Waveform(samples), regions)
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
    track = VoiceTrack.of(cut, embeddings, labels)
    drawn = turns(cut, track, regions, regions)
    return renamed(drawn, names_by_appearance(drawn, track, {}))


def _draw(block: Region, track: VoiceTrack) -> list[tuple[float, float, int]]:
    """Runs of one speaker, (start, end, label), that cover a block of speech without a gap."""
    num_frames = max(1, round(block.duration_s / _FRAME_S))
    times = block.start + (np.arange(num_frames) + 0.5) * block.duration_s / num_frames
    scores = track.at(times).T
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


def _over_pauses(drawn: Sequence[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    """Join a speaker's stretches where a pause lies between them and nobody else."""
    joined: list[tuple[float, float, int]] = []
    for start, end, label in drawn:
        if joined and joined[-1][2] == label and start - joined[-1][1] < MERGE_GAP_S:
            start = joined.pop()[0]
        joined.append((start, end, label))
    return joined


def _clip(run: tuple[float, float, int], talk: Sequence[Region]) -> list[tuple[float, float, int]]:
    """The parts of a run in which there is talk."""
    start, end, label = run
    first = bisect_left(talk, start, key=lambda region: region.end)
    parts = []
    for region in talk[first:]:
        if region.start >= end:
            break
        if min(end, region.end) > max(start, region.start):
            parts.append((max(start, region.start), min(end, region.end), label))
    return parts


def _turn(start: float, end: float, name: str, track: VoiceTrack) -> Turn:
    return Turn(start, end, name, confidence=track.confidence(name, start, end))

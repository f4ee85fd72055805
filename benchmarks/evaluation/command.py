"""Scores a running service on labelled recordings.

The manifest has one JSON object a line; paths are relative to it, and a label that isn't known is
left out:

  {"audio": "a.wav", "text": "four seven", "rttm": "a.rttm", "words": "a.ctm"}
  {"audio": "b.flac", "emotion": "happy", "language": "en", "num_speakers": 2}

Fields:
%(fields)s

Exit status: 0 every recording scored, 1 no service, 2 wrong usage, 3 some recordings failed (the
report names them).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from benchmarks.errors import UsageError
from benchmarks.evaluation import plots, report
from benchmarks.evaluation.answers import Answer, Service, ask_all
from benchmarks.evaluation.manifest import FIELDS, Labelled, read_manifest
from benchmarks.evaluation.normalisation import DESCRIPTIONS, normaliser
from benchmarks.evaluation.scores import Score, score

SOME_FAILED: Final = 3

__doc__ = __doc__ % {"fields": "\n".join(f"  {k:<13}{v}" for k, v in FIELDS.items())}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add = command.add_argument
    add("--manifest", type=Path, required=True, metavar="FILE", help="JSON lines, as above")
    add("--url", default="http://127.0.0.1:6500", help="the service (default %(default)s)")
    add(
        "--api-key",
        default=os.environ.get("VOICE_ANALYTICS_API_KEY"),
        metavar="KEY",
        help="X-API-Key; default: $VOICE_ANALYTICS_API_KEY",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="also write report.md, results.json, plots, and the answers",
    )
    add(
        "--normalise",
        choices=DESCRIPTIONS,
        default="basic",
        help="; ".join(f"{k}: {v}" for k, v in DESCRIPTIONS.items()) + " (default basic)",
    )
    add("--by", metavar="CONDITION", help="also give the figures by this key of `conditions`")
    add("--language", help="told to the service where the manifest has none")
    add(
        "--tell-speaker-count",
        action="store_true",
        help="tell the service how many speakers the RTTM has",
    )
    add(
        "--rename",
        nargs="+",
        default=[],
        metavar="OURS=THEIRS",
        help="the manifest's emotion names → the service's, e.g. fear=fearful",
    )
    add(
        "--concurrency",
        type=int,
        default=4,
        metavar="N",
        help="recordings asked about at once (default %(default)s)",
    )
    add(
        "--timeout",
        type=float,
        default=600.0,
        metavar="S",
        help="for each recording (default %(default)s)",
    )


def run(parsed: argparse.Namespace) -> int:
    """Runs the command; returns the exit status.

    Raises:
        UsageError: arguments or manifest can't be used.
        ServiceAway: nobody answers at the URL.
    """
    recordings = read_manifest(parsed.manifest)
    if parsed.by is not None and not any(parsed.by in x.conditions for x in recordings):
        known = sorted({name for x in recordings for name in x.conditions})
        raise UsageError(f"no recording has a condition '{parsed.by}'; there are: {known}")
    if parsed.concurrency < 1:
        raise UsageError("--concurrency must be 1 at least")
    renamed = _pairs(parsed.rename)
    normalise = normaliser(parsed.normalise)
    service = Service(
        parsed.url,
        parsed.api_key,
        parsed.timeout,
        parsed.concurrency,
        parsed.language,
        parsed.tell_speaker_count,
    )
    answers = asyncio.run(_collect(service, recordings, parsed.out))
    scores: list[Score] = []
    models: dict[str, Any] = {}
    for answer in answers:
        if answer.analysis is not None:
            scores.append(score(answer.recording, answer.analysis, normalise, renamed))
            models |= answer.analysis["models"]
    results = report.Results(
        settings={
            "manifest": parsed.manifest.name,
            "url": parsed.url,
            "normalisation": f"{parsed.normalise} ({DESCRIPTIONS[parsed.normalise]})",
            "language": parsed.language,
            "tell_speaker_count": parsed.tell_speaker_count,
            "renamed": renamed,
        },
        models=models,
        scores=scores,
        failed=[answer for answer in answers if answer.analysis is None],
        by=parsed.by,
    )
    print(report.as_markdown(results), end="")
    if parsed.out is not None:
        report.write(results, parsed.out)
        plots.draw(results, parsed.out)
    return SOME_FAILED if results.failed else 0


async def _collect(
    service: Service, recordings: Sequence[Labelled], out: Path | None
) -> list[Answer]:
    """All answers in the manifest's order; each is kept in `out`/answers as it comes."""
    answers: dict[str, Answer] = {}
    with tqdm(total=len(recordings), unit="recording", file=sys.stderr) as progress:
        async for answer in ask_all(service, recordings):
            answers[answer.recording.id] = answer
            if out is not None and answer.analysis is not None:
                path = out / "answers" / f"{answer.recording.id.replace('/', '_')}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(answer.analysis, indent=1, ensure_ascii=False))
            failed = sum(a.analysis is None for a in answers.values())
            progress.set_postfix(failed=failed, refresh=False)
            progress.update()
    return [answers[recording.id] for recording in recordings]


def _pairs(texts: Sequence[str]) -> Mapping[str, str]:
    pairs = [text.partition("=") for text in texts]
    wrong = [ours for ours, equals, theirs in pairs if not (ours and equals and theirs)]
    if wrong:
        raise UsageError(f"--rename takes OURS=THEIRS, not {' '.join(wrong)}")
    return {ours: theirs for ours, _, theirs in pairs}

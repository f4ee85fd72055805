"""Measures what an hour of audio costs: processor, database, cache, network.

Starts the service of this checkout with the given PostgreSQL (an empty database) and Redis, sends
recordings of 20 to 60 s one after the other, everything asked for, and reads the databases' own
counters around it. What the full-size models cost comes from results of `python -m benchmarks run`
(words-16, words-16-tiny, words-16-small, emotion-windows, speaker-windows), where they lie in
--results. Written to --out, for `python -m benchmarks capacity`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import redis

from benchmarks.errors import BenchmarkError, UsageError
from benchmarks.load import machine, targets
from benchmarks.load.clips import clips
from benchmarks.load.counters import Growth, read, triton_figures
from benchmarks.load.processes import Meter

FIGURES: Final = Path(__file__).with_name("figures.json")
MODELS: Final = {
    "whisper tiny": "words-16-tiny",
    "whisper base": "words-16",
    "whisper small": "words-16-small",
    "emotion": "emotion-windows",
    "speaker_embedding": "speaker-windows",
}
"""Full-size models, and the scenario that measures each."""

_LENGTHS_S: Final = (20.0, 60.0)
_STUB: Final = "triton_python_backend_stub"
_STATEMENTS: Final = {
    "bytes": "SELECT pg_database_size(current_database())",
    "wal_bytes": "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')",
    "rows": "SELECT sum(n_live_tup) FROM pg_stat_user_tables",
    "commits": "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()",
}
_SETTLED_S: Final = 2.0
"""PostgreSQL's statistics are a second behind."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add = command.add_argument
    add("--database-url", required=True, metavar="URL", help="an empty PostgreSQL database")
    add("--redis-url", required=True, metavar="URL", help="a Redis that nobody else uses")
    add("--results", type=Path, required=True, metavar="DIR", help="of `benchmarks run`")
    add("--recordings", type=int, default=24, help="how many are sent (default 24)")
    add("--start", default=str(Path(sys.executable).with_name("start")), metavar="COMMAND")
    add("--out", type=Path, default=FIGURES, metavar="FILE")


def run(parsed: argparse.Namespace) -> int:
    """Runs the command; returns the exit status.

    Raises:
        UsageError: there are no results.
        BenchmarkError: the service doesn't start, or a recording isn't analysed.
    """
    models = of_results(parsed.results)
    settings = {
        "WORKERS": "1",
        "DATABASE_URL": parsed.database_url,
        "REDIS_URL": parsed.redis_url,
    }
    with targets.service(parsed.start, None, settings) as target:
        service = asyncio.run(
            _service(target, parsed.database_url, parsed.redis_url, parsed.recordings)
        )
    report = {
        "machine": machine.facts(),
        "command": f"python -m benchmarks figures --recordings {parsed.recordings}",
        "service": service,
        "models": models,
    }
    parsed.out.write_text(json.dumps(report, indent=1) + "\n")
    print(parsed.out, file=sys.stderr)
    return 0


def of_results(folder: Path) -> dict[str, Any]:
    """Processor seconds for each second of audio (of windows, for the two leaves), by model.

    Raises:
        UsageError: there are no results of these scenarios.
    """
    found: dict[str, Any] = {}
    for model, scenario in MODELS.items():
        path = folder / f"{scenario}.json"
        if not path.exists():
            continue
        results = json.loads(path.read_text())
        runs = [r for r in results["runs"] if r["target"] == targets.SERVICE]
        cpu_s = sum(r["cpu_s"][_STUB] for r in runs)
        found[model] = {
            "cpu_s_per_audio_s": round(cpu_s / sum(r["audio_s"] for r in runs), 4),
            "scenario": scenario,
            "processor": results["machine"]["processor"],
            "commit": results["machine"]["commit"],
            "measured_at": results["machine"]["measured_at"],
        }
    if not found:
        raise UsageError(f"{folder} has no results of {', '.join(MODELS.values())}")
    return found


async def _service(
    target: targets.Target, database_url: str, redis_url: str, recordings: int
) -> dict[str, float]:
    """What was measured, for each hour of audio (times for each second)."""
    assert target.pid is not None and target.triton_metrics_url is not None
    cache = redis.Redis.from_url(redis_url)
    async with httpx.AsyncClient(base_url=target.url, timeout=300) as client:
        await _send(client, target, 2, seed=1)
        meter = Meter(target.pid)
        triton_before = await read(client, target.triton_metrics_url, {})
        before = await _database(database_url), _cache(cache)
        sent = await _send(client, target, recordings, seed=2)
        usage = meter.usage()
        triton_after = await read(client, target.triton_metrics_url, {})
        await asyncio.sleep(_SETTLED_S)
        after = await _database(database_url), _cache(cache)
    hours = sent["audio_s"] / 3600
    database, cached = (
        {name: (now[name] - then[name]) / hours for name in now}
        for now, then in zip(after, before, strict=True)
    )
    triton = triton_figures(Growth(triton_before, triton_after))
    per_s = {model: figures["inferences"] / sent["audio_s"] for model, figures in triton.items()}
    return {
        "audio_s": round(sent["audio_s"], 1),
        "api_cpu_s_per_audio_s": round(usage.cpu_s["start"] / sent["audio_s"], 5),
        "emotion_windows_per_audio_s": round(per_s["emotion"], 3),
        "speaker_windows_per_audio_s": round(per_s["speaker_embedding"], 3),
        "answer_bytes_per_hour": round(sent["answer_bytes"] / hours),
        "database_bytes_per_hour": round(database["bytes"]),
        "database_wal_bytes_per_hour": round(database["wal_bytes"]),
        "database_rows_per_hour": round(database["rows"]),
        "database_commits_per_hour": round(database["commits"]),
        "redis_bytes_per_hour": round(cached["used_memory"]),
        "redis_commands_per_hour": round(cached["total_commands_processed"]),
        "redis_net_bytes_per_hour": round(
            cached["total_net_input_bytes"] + cached["total_net_output_bytes"]
        ),
    }


async def _send(
    client: httpx.AsyncClient, target: targets.Target, count: int, seed: int
) -> dict[str, float]:
    audio_s, answer_bytes = 0.0, 0
    for clip in clips(_LENGTHS_S, count, seed):
        request = targets.upload(clip, {}, target.headers)
        answer = await client.post(request.path, content=request.content, headers=request.headers)
        if not answer.is_success:
            raise BenchmarkError(f"{answer.status_code} {answer.text[:300]}")
        audio_s += clip.duration_s
        answer_bytes += len(answer.content)
    return {"audio_s": audio_s, "answer_bytes": float(answer_bytes)}


async def _database(url: str) -> dict[str, float]:
    connection = await asyncpg.connect(url)
    try:
        return {
            name: float(await connection.fetchval(statement) or 0)
            for name, statement in _STATEMENTS.items()
        }
    finally:
        await connection.close()


def _cache(client: redis.Redis) -> dict[str, float]:
    told: Mapping[str, Any] = client.info()
    names = (
        "used_memory",
        "total_commands_processed",
        "total_net_input_bytes",
        "total_net_output_bytes",
    )
    return {name: float(told[name]) for name in names}

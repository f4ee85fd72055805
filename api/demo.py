"""`./dev.sh demo`: start the service, send it a recording of real people, show what it heard."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from api.errors import ConfigurationError
from api.settings import PROJECT_ROOT, Settings, load_settings
from api.triton_server import bind

SAMPLE = PROJECT_ROOT / "samples" / "conversation.wav"
READY_TIMEOUT_S = 330.0


@contextlib.contextmanager
def service(
    port: int, log_file: Path, settings: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """The service as a process of its own for the block; its log goes to a file."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with open(log_file, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from api.main import start; start()"],
            cwd=PROJECT_ROOT,
            env=os.environ | dict(settings) | {"PORT": str(port), "WORKERS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], url: str, log_file: Path) -> None:
    """Poll until every model answers.

    Raises:
        ConfigurationError: the service ended or took too long; the message holds its last words.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            words = log_file.read_text(errors="replace").splitlines()[-15:]
            raise ConfigurationError("The service ended before it was ready:\n" + "\n".join(words))
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health/ready", timeout=5).status_code == 200:
                return
        time.sleep(0.2)
    raise ConfigurationError(f"The service was not ready in time; its log is {log_file}")


def own_key(settings: Settings) -> tuple[dict[str, str], dict[str, str]]:
    """A key for as long as the demo runs, where there are keys: those of API_KEYS may be hashes.

    Returns:
        What the service's environment needs for it, and a caller's header with it.
    """
    if settings.api_keys is None:
        return {}, {}
    secret = secrets.token_urlsafe(32)
    known = settings.api_keys.get_secret_value()
    return {"API_KEYS": f"{known},demo-{os.getpid()}:{secret}"}, {"X-API-Key": secret}


def analyse(url: str, recording: Path, headers: Mapping[str, str]) -> dict[str, Any]:
    """POST a recording; the decoded answer.

    Raises:
        ConfigurationError: the service answered with an error.
    """
    with recording.open("rb") as file:
        answer = httpx.post(
            f"{url}/audio/analyze", files={"file": file}, headers=dict(headers), timeout=300
        )
    if answer.status_code != 200:
        raise ConfigurationError(f"The service answered {answer.status_code}: {answer.text}")
    content: dict[str, Any] = answer.json()
    return content


def show(answer: dict[str, Any]) -> str:
    """The analysis as a person would like to read it: one line for each time somebody speaks."""
    lines = [f"{'when':>15}  {'who':<11} {'how':<14} what"]
    for who, group in itertools.groupby(answer["segments"], key=lambda s: s["speaker"]):
        segments = list(group)
        when = f"{segments[0]['start']:6.2f} - {segments[-1]['end']:6.2f}"
        what = " ".join(segment["text"].strip() for segment in segments)
        lines.append(f"{when:>15}  {who or '-':<11} {mood(segments):<14} {what}")
    conversation = answer["conversation"]
    talk = ", ".join(f"{who} {s:.1f} s" for who, s in conversation["talk_time"].items())
    total = sum(answer["timings_ms"].values())
    lines += [
        "",
        f"{answer['duration']:.1f} s of audio, language {answer['language']}, "
        f"{len(answer['speakers'])} speakers ({talk})",
        f"emotions: {', '.join(answer['emotions'])}; quality flags: "
        f"{', '.join(answer['quality']['flags']) or 'none'}; analysed in {total / 1000:.2f} s",
    ]
    for name, model in answer["models"].items():
        lines.append(f"{name}: version {model['version']} of {model['checkpoint']}")
    notes = {model["note"] for model in answer["models"].values() if model["note"]}
    return "\n".join([*lines, *sorted(notes)])


def mood(segments: Sequence[dict[str, Any]]) -> str:
    """The likeliest emotion over some segments, each counted by its length."""
    heard: defaultdict[str, float] = defaultdict(float)
    for segment in segments:
        for label, score in (segment["emotion"] or {"scores": {}})["scores"].items():
            heard[label] += score * (segment["end"] - segment["start"])
    if not heard:
        return "-"
    label = max(heard, key=heard.__getitem__)
    return f"{label} {heard[label] / sum(heard.values()):.0%}"


def run(once: bool) -> None:
    settings = load_settings()
    with bind(settings.host, settings.port, "PORT") as probe:
        port = probe.getsockname()[1]
    url = f"http://{settings.host}:{port}"
    log_file = settings.data_dir / "service.log"
    print(f"Starting Triton and the API (log: {log_file}) …", flush=True)
    started = time.monotonic()
    environment, headers = own_key(settings)
    with service(port, log_file, environment) as process:
        wait_until_ready(process, url, log_file)
        print(f"Ready after {time.monotonic() - started:.1f} s at {url}", flush=True)
        print(f"Analysing {SAMPLE.relative_to(PROJECT_ROOT)} …\n", flush=True)
        print(show(analyse(url, SAMPLE, headers)), flush=True)
        if once:
            return
        key = '-H "X-API-Key: $KEY" ' if headers else ""
        print(
            f"\nServing until Ctrl-C. The page: {url}   Documentation: {url}/docs\n"
            f"Your own recording:  curl {key}"
            f"-F file=@recording.wav {url}/audio/analyze",
            flush=True,
        )
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev.sh demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop after the answer")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(arguments.once)
    except ConfigurationError as error:
        sys.exit(error.message)
    except KeyboardInterrupt:
        print("\nStopped", flush=True)


if __name__ == "__main__":
    main()

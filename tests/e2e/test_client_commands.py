"""`voice-analytics`, as its users run it: as a process, against the real service."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from api.settings import PROJECT_ROOT
from tests.conftest import SAMPLE, Service, run_service
from tests.integration.audio_files import CLIPS, samples, wav
from tests.tcp_proxy import proxy_to
from voice_analytics_client.cli.main import cli

README = PROJECT_ROOT / "client" / "README.md"
WORDS = "four one five nine two"


def command(url: str, *arguments: object, **popen: Any) -> subprocess.Popen[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("VOICE_ANALYTICS_")}
    own = {"VOICE_ANALYTICS_URL": url, "PYTHONPATH": str(PROJECT_ROOT / "client")}
    return subprocess.Popen(
        [sys.executable, "-m", "voice_analytics_client", *map(str, arguments)],
        env=inherited | own,
        text=True,
        stdin=popen.pop("stdin", subprocess.DEVNULL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_hear_ctrl_c,
        **popen,
    )


def _hear_ctrl_c() -> None:
    """What a shell runs in the background inherits that SIGINT is ignored; its tests too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(url: str, *arguments: object, code: int = 0, **popen: Any) -> str:
    """Standard output of a command that must end with `code`; of a failing one standard error."""
    with command(url, *arguments, **popen) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == code, out + err
    assert "Traceback" not in err
    return out if code == 0 else err


def lines_of(results: Path) -> list[dict[str, Any]]:
    text = results.read_text()
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def leaves(
    group: click.Group, name: str = "voice-analytics"
) -> Iterator[tuple[str, click.Command]]:
    for part, child in group.commands.items():
        if isinstance(child, click.Group):
            yield from leaves(child, f"{name} {part}")
        else:
            yield f"{name} {part}", child


def test_the_readme_shows_every_command_and_option_and_no_other() -> None:
    """Docs are tested: what a user reads exists, and what exists is read."""
    text = README.read_text()
    known = dict(leaves(cli))
    shown = set(re.findall(r"^voice-analytics ([a-z]+(?: [a-z]+)?)", text, flags=re.M))
    named = {name for name in known if any(f"voice-analytics {s}".startswith(name) for s in shown)}
    assert named == set(known)
    for line in re.findall(r"^voice-analytics .*$", text, flags=re.M):
        owner = max((n for n in known if line.startswith(n)), key=len, default=None)
        assert owner is not None, line
        options = {
            o for p in (*known[owner].params, *cli.params) for o in (*p.opts, *p.secondary_opts)
        }
        used = set(re.findall(r"(?<= )(--[a-z-]+)", line.split(" #")[0]))
        assert used <= options, line


@pytest.mark.parametrize("name", ["voice-analytics", *(name for name, _ in leaves(cli))])
def test_every_command_explains_itself(name: str) -> None:
    found: click.Command = cli
    for part in name.split()[1:]:
        assert isinstance(found, click.Group)
        found = found.commands[part]
    text = found.get_help(click.Context(found, info_name=name))
    assert f"Usage: {name}" in text
    for parameter in found.params:
        assert isinstance(parameter, click.Argument) or getattr(parameter, "help", None), parameter


def test_an_analysis_in_every_format(service: Service, tmp_path: Path) -> None:
    shown = run(service.url, "analyze", SAMPLE, "--language", "en")
    assert re.search(r"0:00\.\d – 0:01\.\d +SPEAKER_00 +\w+.* four", shown)
    assert "2 speakers" in shown
    assert json.loads(run(service.url, "analyze", SAMPLE, "--format", "json"))["transcription"]
    assert run(service.url, "analyze", SAMPLE, "--format", "rttm").startswith("SPEAKER ")
    run(service.url, "analyze", SAMPLE, "--format", "srt", "--out", tmp_path / "subtitles")
    assert (tmp_path / "subtitles" / "conversation.srt").read_text().startswith("1\n00:00:00,")
    with open(SAMPLE, "rb") as file:
        assert run(service.url, "analyze", "-", "--format", "txt", stdin=file).count("\n") > 4


def test_errors_say_what_to_do(service: Service, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no audio")
    assert "Invalid audio format" in run(service.url, "analyze", text, code=1)
    away = run("http://127.0.0.1:9", "health", code=3)
    assert "./dev.sh serve" in away and "VOICE_ANALYTICS_URL" in away
    assert "No such command" in run(service.url, "dance", code=2)
    assert "must be like http" in run("localhost", "health", code=1)
    for source in ("nowhere", tmp_path / "*.wav"):
        complaint = run(service.url, "batch", source, "--out", tmp_path / "r.jsonl", code=2)
        assert str(source) in complaint
    assert not (tmp_path / "r.jsonl").exists()


def test_health_and_models(service: Service) -> None:
    assert run(service.url, "health").startswith("ok")
    assert json.loads(run(service.url, "health", "--json"))["status"] == "ok"
    assert "whisper" in run(service.url, "models")


def test_a_file_is_streamed(service: Service) -> None:
    assert WORDS in run(service.url, "stream", SAMPLE, "--no-partials", "--no-emotions")
    events = [json.loads(x) for x in run(service.url, "stream", SAMPLE, "--json").splitlines()]
    assert (events[0]["type"], events[-1]["type"]) == ("ready", "summary")
    with open(SAMPLE, "rb") as file:
        file.seek(44)
        assert WORDS in run(service.url, "stream", "-", "--no-partials", stdin=file)
    assert "ffmpeg -i" in run(service.url, "stream", README, code=2)
    assert "--microphone" in run(service.url, "stream", code=2)


def test_ctrl_c_ends_a_stream_with_its_summary(service: Service) -> None:
    """Who stops talking wants to see what was understood so far."""
    with command(service.url, "stream", SAMPLE, "--realtime", "--json") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["type"] == "final":
                process.send_signal(signal.SIGINT)
                break
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    summary = json.loads(out.splitlines()[-1])
    assert summary["type"] == "summary"
    assert 2 < summary["duration"] < 15


def test_jobs_are_submitted_watched_listed_and_cancelled(service: Service) -> None:
    assert WORDS.split()[0] in run(service.url, "jobs", "submit", SAMPLE, "--wait")
    (line,) = run(service.url, "jobs", "submit", SAMPLE, "--language", "en").splitlines()
    job_id = line.split()[0]
    watched = json.loads(run(service.url, "jobs", "watch", job_id, "--json"))
    job = json.loads(run(service.url, "jobs", "get", job_id, "--json"))
    assert (job["status"], job["analysis_id"]) == ("succeeded", watched["id"])
    assert job_id in run(service.url, "jobs", "list")
    assert "error:" in run(service.url, "jobs", "cancel", job_id, code=1)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Twelve recordings that no cache knows, in a folder and one below it."""
    folder = tmp_path / "recordings"
    (folder / "below").mkdir(parents=True)
    speech = samples(CLIPS / "digits_nicolas.wav")
    for number in range(12):
        loud = 0.4 + 0.6 * ((time.time_ns() + number * 7919) % 100_003) / 100_003
        where = folder / "below" if number % 3 == 0 else folder
        (where / f"{number:02}.wav").write_bytes(wav(speech * loud))
    return folder


def test_a_batch_goes_on_where_it_stopped(service: Service, recordings: Path) -> None:
    """Failures are told and tried again, done ones are left alone, changed ones done anew."""
    out = recordings.parent / "results.jsonl"
    broken = recordings / "broken.wav"
    broken.write_bytes(b"no audio")
    told = run(service.url, "batch", recordings, "--out", out, code=1)
    assert "1 failed" in told and str(broken) in told and "audio-s/s" in told
    assert [x["path"] for x in lines_of(out) if x["status"] == "failed"] == [str(broken)]
    with open(out, "ab") as file:
        file.write(b'{"path": "torn')
    broken.write_bytes((recordings / "01.wav").read_bytes())
    changed = recordings / "02.wav"
    changed.write_bytes((recordings / "01.wav").read_bytes())
    before = {x["path"]: x for x in lines_of_whole(out)}
    with command(service.url, "batch", recordings, "--out", out) as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "11 of 13 are done already" in err
    after = {x["path"]: x for x in lines_of(out)}
    assert len(lines_of(out)) == len(after) == 13
    redone = {path for path in after if after[path] != before.get(path)}
    assert redone == {str(broken), str(changed)}
    assert "other options" in run(
        service.url, "batch", recordings, "--out", out, "--no-diarize", code=2
    )


def lines_of_whole(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_bytes().split(b"\n")[:-1]]


def test_a_killed_batch_loses_nothing_and_tears_nothing(service: Service, recordings: Path) -> None:
    """kill -9 in the middle, three times, then to the end: every recording once."""
    out = recordings.parent / "results.jsonl"
    arguments = ("batch", recordings, "--out", out, "--concurrency", 2)
    seen: dict[str, Any] = {}
    for round_ in range(1, 4):
        with command(service.url, *arguments) as process:
            deadline = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline:
                if out.exists() and out.read_bytes().count(b"\n") >= 3 * round_:
                    break
                time.sleep(0.01)
            process.kill()
        now = {line["path"]: line for line in lines_of(out)}
        assert seen.items() <= now.items()
        assert len(now) >= 3 * round_
        seen = now
    run(service.url, *arguments)
    finished = lines_of(out)
    assert len(finished) == len({line["path"] for line in finished}) == 12
    assert seen.items() <= {line["path"]: line for line in finished}.items()


def test_two_batches_into_one_file_are_refused(service: Service, recordings: Path) -> None:
    """And Ctrl-C ends a batch at once, also while it waits for the service."""
    out = recordings.parent / "results.jsonl"
    with proxy_to(service.url) as proxy:
        proxy.freeze()
        with command(proxy.url, "batch", recordings, "--out", out) as first:
            while not proxy.connections:
                time.sleep(0.02)
            assert "Another batch" in run(service.url, "batch", recordings, "--out", out, code=2)
            first.send_signal(signal.SIGINT)
            _, err = first.communicate(timeout=60)
    assert first.returncode == 130
    assert "0 of 12" in err and "the same command goes on from here" in err
    assert "Interrupted" in err and "Traceback" not in err


def test_a_batch_outlives_the_service(recordings: Path, tmp_path: Path) -> None:
    """The service is killed and started anew in the middle: all are analysed, none fails. A
    recording too long for an answer at once goes as a job."""
    out = tmp_path / "results.jsonl"
    data_dir = tmp_path / "data"
    settings = {"MAX_AUDIO_LENGTH": "15"}
    (recordings / "long.wav").write_bytes(SAMPLE.read_bytes())
    with (
        run_service(data_dir, **settings) as first,
        proxy_to(first.url) as proxy,
        command(proxy.url, "batch", recordings, "--out", out, "--concurrency", 2) as process,
    ):
        while process.poll() is None and (not out.exists() or out.read_bytes().count(b"\n") < 2):
            time.sleep(0.02)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        with run_service(data_dir, **settings) as second:
            proxy.lead_to(second.url)
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            assert run(second.url, "jobs", "list", "--json").count("succeeded") == 1
    finished = lines_of(out)
    assert {line["status"] for line in finished} == {"succeeded"}
    assert len(finished) == len({line["path"] for line in finished}) == 13


def test_a_batch_gives_up_in_the_end(recordings: Path) -> None:
    out = recordings.parent / "results.jsonl"
    told = run("http://127.0.0.1:9", "batch", recordings, "--out", out, "--max-wait", "0.5", code=3)
    assert "0 of 12" in told and "can't be reached" in told
    assert lines_of(out) == []


def test_lists_patterns_and_folders_name_the_same(service: Service, recordings: Path) -> None:
    manifest = recordings.parent / "list.txt"
    manifest.write_text("recordings/01.wav\n\nrecordings/missing.wav\n")
    out = recordings.parent / "results.jsonl"
    pattern = recordings / "0[12].wav"
    told = run(service.url, "batch", manifest, pattern, "--out", out, code=1)
    assert "missing.wav: No such file" in told
    assert sorted(Path(line["path"]).name for line in lines_of(out)) == [
        "01.wav",
        "02.wav",
        "missing.wav",
    ]


def test_the_wheel_runs_with_its_own_dependencies_only(service: Service, tmp_path: Path) -> None:
    """The client is a distribution of its own: neither torch nor the server comes along."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    wheels = tmp_path / "wheels"
    client = PROJECT_ROOT / "client"
    subprocess.run([*pip, "wheel", "--no-deps", "-w", wheels, client], check=True, env=environment)
    (wheel,) = wheels.glob("voice_analytics_client-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", wheel], check=True, env=environment)
    program = python.with_name("voice-analytics")
    shown = subprocess.run(
        [program, "--url", service.url, "analyze", SAMPLE],
        env={"PATH": os.environ["PATH"], "NO_COLOR": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert "2 speakers" in shown.stdout and "\x1b" not in shown.stdout
    with contextlib.suppress(subprocess.CalledProcessError):
        subprocess.run([python, "-c", "import torch"], check=True, capture_output=True)
        pytest.fail("torch came along")

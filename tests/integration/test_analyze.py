"""POST /audio/analyze over the real tritonserver, as callers use it."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import SAMPLE, Service
from tests.integration.audio_files import digits, silence, wav, wordless

ERROR_FIELDS = {"error", "message", "details", "request_id"}


def analyse(client: httpx.Client, data: bytes, **options: Any) -> dict[str, Any]:
    answer = client.post("/audio/analyze", files={"file": ("a.wav", data)}, data=options)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error's body, after checking that it has the one shape."""
    assert answer.status_code == status, answer.text
    content: dict[str, Any] = answer.json()
    assert set(content) == ERROR_FIELDS
    assert content["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    return content


def test_a_conversation(client: httpx.Client) -> None:
    answer = analyse(client, SAMPLE.read_bytes())
    assert answer["language"] == "en"
    assert re.fullmatch(r"[a-z ]+", answer["transcription"])
    assert len(answer["speakers"]) == 2
    assert answer["duration"] == pytest.approx(len(SAMPLE.read_bytes()) / 32000, abs=0.01)
    previous = 0.0
    for number, segment in enumerate(answer["segments"]):
        assert segment["id"] == number
        assert previous <= segment["start"] <= segment["end"] <= answer["duration"]
        assert segment["speaker"] in {s["id"] for s in answer["speakers"]}
        assert sum(segment["emotion"]["scores"].values()) == pytest.approx(1, abs=1e-4)
        assert "".join(w["word"] for w in segment["words"]).split() == segment["text"].split()
        for word in segment["words"]:
            assert segment["start"] - 0.01 <= word["start"] <= word["end"] <= segment["end"] + 0.01
        previous = segment["start"]
    assert answer["emotions"]
    assert set(answer["models"]) == {"whisper", "emotion", "speaker_embedding"}
    assert all(m["bundled"] and "demonstration" in m["note"] for m in answer["models"].values())
    assert {"decode", "vad", "whisper", "emotion", "speaker_embedding", "assembly"} <= set(
        answer["timings_ms"]
    )
    stages = {"vad", "whisper", "emotion", "speaker_embedding", "overlap"}
    assert set(answer["cache"]) == stages
    assert answer["cached"] is (set(answer["cache"].values()) == {"hit"})


def test_silence_gives_no_word(client: httpx.Client) -> None:
    """Whisper invents words on silence (whisper.cpp#1724); nothing may reach it."""
    answer = analyse(client, wav(silence(5)))
    assert answer["transcription"] == ""
    assert answer["segments"] == answer["speakers"] == answer["emotions"] == []
    assert answer["language"] is None
    assert answer["quality"]["flags"] == ["no_speech"]


async def test_no_word_on_200_clips_of_silence_noise_hum_and_music(service: Service) -> None:
    """Two gates stand before invented words: the detector, and Whisper's own no-speech token."""
    few = asyncio.Semaphore(4)
    async with httpx.AsyncClient(base_url=service.url, timeout=120) as http:

        async def words(clip: NDArray[np.float32]) -> str:
            async with few:
                answer = await http.post("/audio/analyze", files={"file": wav(clip)})
            assert answer.status_code == 200
            return str(answer.json()["transcription"])

        heard = await asyncio.gather(*(words(clip) for clip in wordless(200, seed=1)))
    assert [text for text in heard if text] == []


def test_options_switch_branches_off(client: httpx.Client) -> None:
    data = wav(digits()[0])
    answer = analyse(client, data, diarize=False, emotions=False, word_timestamps=False)
    assert answer["speakers"] == answer["emotions"] == answer["turns"] == []
    assert all(s["speaker"] is s["emotion"] is None for s in answer["segments"])
    assert all(s["words"] == [] for s in answer["segments"])
    assert answer["transcription"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_number_of_speakers_can_be_given(client: httpx.Client, count: int) -> None:
    answer = analyse(client, SAMPLE.read_bytes(), num_speakers=count)
    assert len(answer["speakers"]) == count


@pytest.mark.parametrize(
    "response_format, start",
    [
        ("srt", r"1\n00:00:0"),
        ("vtt", r"WEBVTT\n\n00:00:0.*\n<v SPEAKER_00>"),
        ("tsv", r"start\tend\tspeaker\ttext\n\d"),
        ("text", r"SPEAKER_00: [a-z]"),
        ("rttm", r"SPEAKER [0-9a-f]{32} 1 \d"),
        ("html", r"<!doctype html>\n<html lang="),
    ],
)
def test_formats(client: httpx.Client, response_format: str, start: str) -> None:
    answer = client.post(
        "/audio/analyze",
        files={"file": SAMPLE.read_bytes()},
        data={"response_format": response_format},
    )
    assert answer.status_code == 200
    assert re.match(start, answer.text)


@pytest.mark.parametrize(
    "data, status",
    [
        (b"", 400),
        (b"this is no audio at all, it only pretends to be" * 10, 400),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), 400),
        (b"#EXTM3U\nhttp://127.0.0.1:1/secret\n", 415),
    ],
)
def test_what_is_not_audio_is_refused(client: httpx.Client, data: bytes, status: int) -> None:
    answer = client.post("/audio/analyze", files={"file": ("a.bin", data)})
    assert refused(answer, status)["error"] == "ValidationError"


@pytest.mark.parametrize(
    "options, named",
    [
        ({"num_speakers": "0"}, "num_speakers"),
        ({"num_speakers": "many"}, "num_speakers"),
        ({"task": "sing"}, "task"),
        ({"colour": "red"}, "colour"),
        ({"min_speakers": "3", "max_speakers": "2"}, "min_speakers"),
        ({"response_format": "docx"}, "response_format"),
    ],
)
def test_a_wrong_option_is_named(client: httpx.Client, options: dict[str, str], named: str) -> None:
    answer = client.post("/audio/analyze", files={"file": wav(silence(1))}, data=options)
    assert named in str(refused(answer, 422)["details"])


def test_an_unknown_language_is_refused(client: httpx.Client) -> None:
    answer = client.post(
        "/audio/analyze", files={"file": wav(digits()[0])}, data={"language": "tlh"}
    )
    refused(answer, 422)


def test_a_missing_file_is_named(client: httpx.Client) -> None:
    assert "file" in refused(client.post("/audio/analyze", data={}), 422)["details"]


def test_a_recording_that_is_too_long_is_refused(client: httpx.Client) -> None:
    answer = client.post("/audio/analyze", files={"file": wav(silence(301))})
    refused(answer, 413)


def test_unknown_routes_have_the_one_shape(client: httpx.Client) -> None:
    assert refused(client.get("/nowhere"), 404)["error"] == "NotFound"
    assert refused(client.get("/audio/analyze"), 405)["error"] == "MethodNotAllowed"


def test_a_request_id_is_taken_over_unless_it_could_forge_logs(client: httpx.Client) -> None:
    assert client.get("/health", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == (
        "abc-1"
    )
    forged = client.get("/health", headers={"x-request-id": "a b\tc"}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", forged)


async def test_concurrent_clips_share_executions_and_keep_their_answers(service: Service) -> None:
    """Clips of different lengths run in one batch, and each gets the answer it gets alone."""
    # Each a little quieter than the last: the cache would answer what was heard before.
    clips = [wav(clip * np.float32(0.98**n)) for n in range(1, 5) for clip in digits()]
    async with httpx.AsyncClient(base_url=service.url, timeout=120) as http:

        async def ask(data: bytes) -> dict[str, Any]:
            answer = await http.post("/audio/analyze", files={"file": data})
            assert answer.status_code == 200
            content: dict[str, Any] = answer.json()
            return content

        alone = [await ask(wav(clip * np.float32(0.99))) for clip in digits()]
        before = await _executions(http, service)
        together = await asyncio.gather(*(ask(data) for data in clips))
        after = await _executions(http, service)
        deadline = time.monotonic() + 10
        # Triton counts a batch after it has answered it.
        while after["inferences"] - before["inferences"] < len(clips):
            assert time.monotonic() < deadline, after
            after = await _executions(http, service)
    for number, answer in enumerate(together):
        expected = alone[number % len(alone)]
        assert answer["transcription"] == expected["transcription"]
        assert answer["emotions"] == expected["emotions"]
        assert _word_starts(answer) == pytest.approx(_word_starts(expected), abs=0.021)
    requests = after["inferences"] - before["inferences"]
    assert after["executions"] - before["executions"] < requests


def _word_starts(answer: dict[str, Any]) -> list[float]:
    return [word["start"] for segment in answer["segments"] for word in segment["words"]]


async def _executions(http: httpx.AsyncClient, service: Service) -> dict[str, int]:
    """Whisper's counters from Triton's own metrics."""
    port = service.triton_port("metrics")
    text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text

    def total(name: str) -> int:
        found = re.findall(rf'^{name}{{model="whisper",version="1"}} (\d+)', text, flags=re.M)
        return sum(int(value) for value in found)

    return {
        "inferences": total("nv_inference_count"),
        "executions": total("nv_inference_exec_count"),
    }

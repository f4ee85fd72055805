"""Rolling out versions of the models under traffic: nobody gets an error or a mixed answer."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import httpx

from tests.conftest import run_service
from tests.model_versions import publish, rotated_labels
from tests.rolling import LENIENT, Crowd, Rolling, eventually, recording, told_version


def test_a_canary_walks_to_its_promotion_and_back_while_callers_notice_nothing(
    rolling: Rolling,
) -> None:
    publish(rolling.repository, "emotion", "2", rotated_labels)
    old = recording(-1 % 2**32)
    before = rolling.analyze(old).json()
    assert told_version(before) == "1"
    with Crowd(rolling, 6).asking() as crowd:
        rollout = rolling.begun(
            "emotion",
            version="2",
            steps=[30, 100],
            step_seconds=0,
            gates=LENIENT,
            auto_promote=True,
        )
        done = rolling.until("emotion", rollout, "promoted", "rolled_back", "failed")
        assert done["status"] == "promoted", done["reason"]
        rolling.settled("emotion", ["2"])
    crowd.check()
    assert {versions["emotion"] for versions in crowd.versions} == {"1", "2"}
    kinds = [event["kind"] for event in done["history"]]
    assert kinds == ["created", "golden", "started", "step", "promoted"]
    shown = rolling.model("emotion")
    assert (shown["version"], shown["checkpoint"]) == ("2", "copy-2")
    assert [v["state"] for v in shown["versions"]] == ["available", "serving"]

    # nothing stale after a promotion: the new version heard it anew, Whisper's text is the same
    after = rolling.analyze(old).json()
    assert told_version(after) == after["models"]["emotion"]["version"] == "2"
    assert after["segments"][0]["emotion"]["label"] != before["segments"][0]["emotion"]["label"]

    with Crowd(rolling, 6).asking() as crowd:
        url = f"{rolling.service.url}/models/emotion/rollouts/{rollout}"
        back = httpx.delete(url, timeout=60).json()
        assert back["version"] == "1"
        rolling.until("emotion", back["id"], "promoted")
        rolling.settled("emotion", ["1"])
    crowd.check()
    again = rolling.analyze(old).json()
    assert told_version(again) == again["models"]["emotion"]["version"] == "1"


def test_a_rollback_finds_what_was_cached_before(tmp_path: Path) -> None:
    """One worker: its memory is the only cache, so that what it finds is no matter of luck."""
    with run_service(tmp_path / "one", WATCHDOG_INTERVAL="60") as service:
        rolling = Rolling(service)
        publish(rolling.repository, "emotion", "2", rotated_labels)
        data = recording()
        assert rolling.analyze(data).json()["cache"]["emotion"] == "miss"
        for version in ("2", "1"):
            rollout = rolling.begun(
                "emotion",
                version=version,
                strategy="blue_green",
                gates=LENIENT,
                auto_promote=True,
            )
            rolling.until("emotion", rollout, "promoted")
            rolling.settled("emotion", [version])
            answer = rolling.analyze(data).json()
            outcome = "miss" if version == "2" else "hit"
            assert answer["cache"] == {**dict.fromkeys(answer["cache"], "hit"), "emotion": outcome}
            assert told_version(answer) == version


def test_a_shadow_answers_nobody_and_is_compared(rolling: Rolling) -> None:
    publish(rolling.repository, "speaker_embedding", "2")
    with Crowd(rolling, 2).asking() as crowd:
        rollout = rolling.begun(
            "speaker_embedding",
            version="2",
            strategy="shadow",
            gates={"min_requests": 5, "agreement": 0.99, "p95_ratio": None},
        )

        def compared() -> bool:
            figures = rolling.get("speaker_embedding", rollout)["figures"]
            return bool(figures and figures["compared"] >= 5)

        eventually(compared)
    crowd.check()
    assert {versions["speaker_embedding"] for versions in crowd.versions} == {"1"}
    found = rolling.get("speaker_embedding", rollout)
    assert found["status"] == "running"
    assert found["figures"]["agreement"] > 0.999
    compared_metric = "voice_analytics_model_agreement_count"
    assert rolling.metric(compared_metric, model="speaker_embedding", version="2") >= 5

    # a version that vanishes from disk: the rollout ends and says why
    shutil.rmtree(rolling.repository / "speaker_embedding" / "2")
    done = rolling.until("speaker_embedding", rollout, "rolled_back")
    assert done["history"][-1]["detail"]["gate"] == "files"
    rolling.settled("speaker_embedding", ["1"])


def test_two_operators_at_once(rolling: Rolling) -> None:
    publish(rolling.repository, "speaker_embedding", "3")
    answers: list[httpx.Response] = []
    body = {"version": "3", "weight": 10, "gates": {"golden": False}}
    threads = [
        threading.Thread(target=lambda: answers.append(rolling.start("speaker_embedding", **body)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 5
    (begun,) = [answer.json() for answer in answers if answer.status_code == 202]
    seen = rolling.until("speaker_embedding", begun["id"], "running")
    url = f"{rolling.service.url}/models/speaker_embedding/rollouts/{begun['id']}"
    change = {"weight": 20, "revision": seen["revision"]}
    assert httpx.patch(url, json=change, timeout=60).json()["weight"] == 20
    refused = httpx.patch(url, json={**change, "weight": 30}, timeout=60)
    assert (refused.status_code, refused.json()["error"]) == (409, "Conflict")
    assert httpx.patch(url, json={"status": "paused"}, timeout=60).json()["status"] == "paused"
    assert httpx.patch(url, json={"status": "paused"}, timeout=60).status_code == 409
    assert httpx.patch(url, json={"status": "running"}, timeout=60).json()["status"] == "running"
    assert httpx.post(f"{url}/rollback", timeout=60).json()["status"] == "rolled_back"
    assert httpx.post(f"{url}/promote", timeout=60).status_code == 409
    assert httpx.get(f"{rolling.service.url}/models/nobody/rollouts").status_code == 404
    assert rolling.start("whisper", version="77").status_code == 404
    assert rolling.start("whisper", version="1").status_code == 409
    assert rolling.start("whisper", version="2", strategy="blue_green", weight=5).status_code == 422
    rolling.settled("speaker_embedding", ["1"])

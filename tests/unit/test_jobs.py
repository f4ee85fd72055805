"""The parts of jobs that need no service: webhooks' rules, progress, uploads, locks."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import time
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import InvalidOption, StoreUnavailable
from api.jobs.liveness import WorkerLock
from api.jobs.progress import WEIGHTS, Progress
from api.jobs.uploads import Uploads
from api.jobs.webhooks import check_url, is_public, pauses_s, sign
from api.types import AnalysisOptions


def test_signatures_are_those_of_standard_webhooks() -> None:
    """The example of the specification's own reference libraries."""
    body = b'{"event_type":"ping","data":{"success":true}}'
    signature = sign("whsec_plJ3nmyCDGBKInavdOK15jsl", "msg_loFOjxBNrRLzqYUf", 1731705121, body)
    assert signature == "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="
    assert sign("a secret", "msg_1", 1, body) != sign("another", "msg_1", 1, body)


@pytest.mark.parametrize(
    "address",
    "127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 0.0.0.0 100.64.0.1 224.0.0.1 "
    "255.255.255.255 ::1 :: fe80::1 fc00::1 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 "
    "64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 2002:7f00:1:: 2002:a00:1::".split(),
)
def test_our_own_networks_are_not_called(address: str) -> None:
    assert not is_public(ip_address(address))
    url = f"http://[{address}]/" if ":" in address else f"http://{address}/"
    with pytest.raises(InvalidOption):
        check_url(url, allow_private=False)
    check_url(url, allow_private=True)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07::1", "::ffff:8.8.8.8"])
def test_the_public_network_is_called(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "url",
    "ftp://example.com/ file:///etc/passwd gopher://example.com //example.com http:// x "
    f"http://a:b@example.com/ http://[::1 https://example.com/{'a' * 3000}".split(),
)
def test_what_is_no_address_of_the_web_is_refused(url: str) -> None:
    with pytest.raises(InvalidOption):
        check_url(url, allow_private=True)


def test_webhooks_are_tried_for_a_day() -> None:
    pauses = pauses_s(5.0)
    assert pauses[:3] == [5.0, 25.0, 125.0]
    assert 20 * 3600 < sum(pauses) < 36 * 3600


REPORTS = st.lists(st.tuples(st.sampled_from([*WEIGHTS, "else"]), st.floats(0, 2)), max_size=60)


@given(reports=REPORTS, diarize=st.booleans(), emotions=st.booleans())
def test_progress_never_falls(
    reports: list[tuple[str, float]], diarize: bool, emotions: bool
) -> None:
    progress = Progress(replace(AnalysisOptions(), diarize=diarize, emotions=emotions))
    before = 0.0
    for stage, done in reports:
        progress.report(stage, done)
        assert before <= progress.fraction <= 1.0 + 1e-9
        before = progress.fraction
    for stage in WEIGHTS:
        progress.report(stage, 1.0)
    assert progress.fraction == pytest.approx(1.0)
    assert progress.stage == "store"


def test_weights_are_shares() -> None:
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)
    assert Progress(AnalysisOptions()).stage == "decode"


def test_uploads_are_kept_and_swept(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "jobs")
    digest = asyncio.run(uploads.keep("a", io.BytesIO(b"x" * 3_000_000)))
    assert digest == asyncio.run(uploads.keep("b", io.BytesIO(b"x" * 3_000_000)))
    assert uploads.path("a").read_bytes() == b"x" * 3_000_000
    (tmp_path / "jobs" / "c.part").write_bytes(b"broken off")
    assert (
        asyncio.run(uploads.sweep({"a"})) == 0
    ), "what is fresh may belong to a job being accepted"
    long_ago = time.time() - 2 * 3600
    for file in (tmp_path / "jobs").iterdir():
        os.utime(file, (long_ago, long_ago))
    assert asyncio.run(uploads.sweep({"a"})) == 2
    assert [file.name for file in (tmp_path / "jobs").iterdir()] == ["a.upload"]
    for _ in range(2):
        asyncio.run(uploads.remove("a"))
    assert list((tmp_path / "jobs").iterdir()) == []


def test_a_full_disk_refuses_the_upload(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    uploads.path("a").with_suffix(".part").symlink_to("/dev/full")
    with pytest.raises(StoreUnavailable):
        asyncio.run(uploads.keep("a", io.BytesIO(b"x" * 3_000_000)))
    assert list(tmp_path.iterdir()) == []


HOLD = "import sys, pathlib; from api.jobs.liveness import WorkerLock; \
lock = WorkerLock(pathlib.Path(sys.argv[1]), 'other'); print('held', flush=True); sys.stdin.read()"


def test_a_killed_worker_is_known_to_be_dead_at_once(tmp_path: Path) -> None:
    mine = WorkerLock(tmp_path, "mine")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert mine.dead() == set()
        other.kill()
        other.wait()
    assert mine.dead() == {"other"}
    mine.forget("other")
    assert mine.dead() == set()
    mine.release()

"""API keys: written, parsed, compared, made; never shown."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from api.errors import AuthenticationError, ConfigurationError
from api.keys import ANONYMOUS, parse
from api.settings import PROJECT_ROOT, Settings

SECRET = "correct-horse-battery"
HASHED = hashlib.sha256(SECRET.encode()).hexdigest()


@pytest.mark.parametrize(
    "text", [f"alice:{SECRET}", f"alice:sha256:{HASHED}", f"alice:sha256:{HASHED.upper()}"]
)
def test_a_secret_opens_whichever_way_it_is_written(text: str) -> None:
    ring = parse(text)
    assert ring.name_of(SECRET) == "alice"
    for wrong in (None, "", SECRET[:-1], SECRET + "x", HASHED, f"sha256:{HASHED}", "é" * 20):
        with pytest.raises(AuthenticationError):
            ring.name_of(wrong)


def test_several_keys_and_two_of_one_name() -> None:
    """While a key is replaced, the old one and the new one open."""
    ring = parse("alice:old-secret-0123456,\n bob:bobs-secret-0123456  alice:new-secret-0123456,")
    named = {s: ring.name_of(f"{s}-secret-0123456") for s in ("old", "bobs", "new")}
    assert named == {"old": "alice", "bobs": "bob", "new": "alice"}


@pytest.mark.parametrize("text", ["", " ", ",, \n"])
def test_without_keys_everybody_is_anonymous(text: str) -> None:
    assert not parse(text)
    assert parse(text).name_of(None) == parse(text).name_of("whatever") == ANONYMOUS


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("just-a-secret-without-name", "entry 1"),
        (f"alice:{SECRET},:{SECRET}", "entry 2"),
        (f"al ice:{SECRET}", "entry 1"),
        (f"a/b:{SECRET}", "entry 1"),
        ("alice:short", "'alice'"),
        ("alice:seventeen characters", "'alice'"),
        ("alice:sha256:abc", "64 hex"),
        ("alice:sha256:" + "g" * 64, "64 hex"),
    ],
)
def test_a_wrong_entry_is_pointed_at_and_not_shown(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    assert complaint in caught.value.message
    for secret in (SECRET, "short", "secret-without", "seventeen"):
        assert secret not in caught.value.message


def test_neither_settings_nor_ring_show_a_secret() -> None:
    settings = Settings(api_keys=f"alice:{SECRET}")  # type: ignore[arg-type]
    ring = parse(f"alice:{SECRET}")
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(ring)):
        assert SECRET not in shown
    assert SECRET not in repr(vars(ring))


def test_the_command_makes_a_key_that_opens() -> None:
    made = [_new("alice"), _new("alice")]
    for secret, entry in made:
        assert parse(entry).name_of(secret) == "alice"
        assert secret not in entry
    assert made[0] != made[1]


def test_the_command_refuses_a_name_that_logs_could_not_hold() -> None:
    done = _run("new", "two words")
    assert done.returncode == 1 and "NAME" in done.stderr and not done.stdout


def _new(name: str) -> tuple[str, str]:
    done = _run("new", name)
    secret, entry = (line.split()[-1] for line in done.stdout.splitlines())
    return secret, entry


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "api.keys", *arguments],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
    )

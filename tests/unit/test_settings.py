"""Every setting is documented once, and what is documented exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from api.settings import PROJECT_ROOT, Settings

NAMES = {name.upper() for name in Settings.model_fields}


def test_every_setting_has_a_docstring() -> None:
    undocumented = [n for n, field in Settings.model_fields.items() if not field.description]
    assert undocumented == []


def test_the_example_file_names_every_setting_with_its_default() -> None:
    lines = (PROJECT_ROOT / ".env.example").read_text().splitlines()
    given = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", "\n".join(lines), flags=re.M))
    assert set(given) == NAMES
    for name, value in given.items():
        default = Settings.model_fields[name.lower()].default
        if default is not None:
            assert type(default)(value if default is not False else False) == default, name


def test_the_manual_lists_every_setting_in_its_own_words() -> None:
    manual = (PROJECT_ROOT / "docs" / "settings.md").read_text()
    table = dict(re.findall(r"^\| `([A-Z_]+)` \| [^|]*\| (.+) \|$", manual, flags=re.M))
    fields = Settings.model_fields.items()
    assert table == {n.upper(): " ".join(str(f.description).split()) for n, f in fields}


def test_the_readme_names_settings_that_exist_with_their_defaults() -> None:
    readme = (PROJECT_ROOT / "README.md").read_text()
    section = readme[readme.index("## Environment variables") :]
    rows = re.findall(r"^\| ([A-Z_]+) \| [^|]+ \| ([^|]+) \|$", section, flags=re.M)
    assert {name for name, _ in rows} >= {"PORT", "WORKERS", "DEBUG", "WHISPER_MODEL"}
    for name, given in rows:
        default = Settings.model_fields[name.lower()].default
        assert default is None or float(given) == default if given[0].isdigit() else True, name
        assert str(default) == given or default is None or given[0].isdigit(), name


def test_the_environment_wins_and_empty_means_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PORT", "0")
    monkeypatch.setenv("TRITON_URL", "")
    settings = Settings()
    assert settings.port == 0
    assert settings.triton_url is None
    assert settings.repository_dir == Path(".data/model_repository")


@pytest.mark.parametrize("name, value", [("PORT", "70000"), ("SAMPLE_RATE", "8000")])
def test_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()

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


def test_the_readme_lists_every_setting() -> None:
    table = re.findall(r"^\| `([A-Z_]+)` \|", (PROJECT_ROOT / "README.md").read_text(), flags=re.M)
    assert sorted(table) == sorted(NAMES)


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

"""What docs/security.md says is shown by a test is shown by one that exists."""

from __future__ import annotations

import re

from api.settings import PROJECT_ROOT

TEXT = (PROJECT_ROOT / "docs" / "security.md").read_text()


def test_every_proof_exists() -> None:
    files = re.findall(r"`(tests/[\w/]+\.py)`", TEXT)
    names = re.findall(r"`(test_\w+)`", TEXT)
    assert len(files) > 5 and len(names) > 5
    assert [file for file in files if not (PROJECT_ROOT / file).exists()] == []
    written = "\n".join(path.read_text() for path in (PROJECT_ROOT / "tests").rglob("test_*.py"))
    assert [name for name in names if f"def {name}(" not in written] == []

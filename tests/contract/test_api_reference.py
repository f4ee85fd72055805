"""docs/api.md is what the service's own OpenAPI document says."""

from __future__ import annotations

import re

import pytest

from scripts.api_reference import PAPER, document, reference

TEXT = PAPER.read_text()


@pytest.fixture(scope="module")
def written() -> str:
    return reference(document())


def test_the_reference_is_fresh(written: str) -> None:
    assert written == TEXT, "docs/api.md is stale: run ./dev.sh docs"


def test_every_operation_and_every_field_is_in_it(written: str) -> None:
    content = document()
    for path, operations in content["paths"].items():
        for method in operations:
            assert f"\n### {method.upper()} {path}\n" in written
    for name, schema in content["components"]["schemas"].items():
        _, _, rest = written.partition(f"\n### {name}\n")
        section = rest.split("\n### ")[0]
        for field in schema.get("properties", {}):
            assert f"| `{field}` |" in section, (name, field)


def test_a_change_of_the_document_shows(written: str) -> None:
    content = document()
    content["components"]["schemas"]["AnalyzeForm"]["properties"]["beam_size"]["default"] = 5
    assert reference(content) != written


def test_its_links_lead_to_its_headings() -> None:
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in TEXT.splitlines()
        if line.startswith("#")
    }
    wanted = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert wanted and wanted <= headings

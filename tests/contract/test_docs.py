"""What the documents promise exists, and what exists is in them."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from api.settings import PROJECT_ROOT

README = (PROJECT_ROOT / "README.md").read_text()
DOCUMENTS = [
    *PROJECT_ROOT.glob("*.md"),
    *PROJECT_ROOT.glob("docs/**/*.md"),
    *PROJECT_ROOT.glob("*/README.md"),
    *PROJECT_ROOT.glob("export/checkpoints/*/README.md"),
]
NOT_IN_OPENAPI = {
    "GET /",
    "GET /docs",
    "GET /redoc",
    "GET /openapi.json",
    "WS /audio/stream",
}


def test_the_readme_lists_every_route(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    served = {f"{method.upper()} {path}" for path, item in paths.items() for method in item}
    rows = [line for line in README.splitlines() if re.match(r"\| `(GET|POST|WS)", line)]
    listed = {name for row in rows for name in re.findall(r"`((?:[A-Z]+) /[^`]*)`", row)}
    assert listed == served | NOT_IN_OPENAPI


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", "/openapi.json"])
def test_pages_are_served(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200


def test_the_readme_lists_the_form_of_an_analysis(client: httpx.Client) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    (form,) = [
        s for name, s in schemas.items() if "analyze" in name.lower() and "Body" in name
    ] or [schemas["AnalyzeForm"]]
    section = README[README.index("with these optional fields") : README.index("Asking again")]
    rows = re.findall(r"^\| (`.+?`) \|", section, flags=re.M)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert listed == set(form["properties"]) - {"file"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(PROJECT_ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target) or target.startswith("#"):
            continue
        assert (document.parent / target.split("#")[0]).exists(), f"{document.name}: {target}"


def test_commands_of_dev_sh_are_in_the_readme() -> None:
    script = (PROJECT_ROOT / "dev.sh").read_text()
    cases = script[script.index("case $command in") :]
    commands = set(re.findall(r"^    ([a-z]+)\)", cases, flags=re.M))
    assert commands == set(re.findall(r"`\./dev\.sh ([a-z]+)", README))


def test_poetry_commands_in_the_readme_exist() -> None:
    scripts = (PROJECT_ROOT / "pyproject.toml").read_text().split("[project.scripts]")[1]
    own = set(re.findall(r"^(\w+) = ", scripts.split("\n[")[0], flags=re.M))
    named = set(re.findall(r"`poetry run (\w+)", README))
    assert own | {"pytest", "black", "isort", "mypy"} == named

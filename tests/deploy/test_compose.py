"""docker-compose.yml is valid, and everything it names exists and is documented."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from typing import Any

import pytest
import yaml

from api.settings import PROJECT_ROOT, Settings

FILE = PROJECT_ROOT / "docker-compose.yml"
TEXT = FILE.read_text()
CONTENT: dict[str, Any] = yaml.safe_load(TEXT)
SETTINGS = {name.upper() for name in Settings.model_fields}
SECRETS = {"API_KEYS": "a", "POSTGRES_PASSWORD": "b", "GRAFANA_PASSWORD": "c"}
PROFILES = ("gpu", "cpu", "export")


def config(**environment: str) -> subprocess.CompletedProcess[str]:
    """What compose makes of the file; a developer's .env plays no part."""
    with tempfile.NamedTemporaryFile(suffix=".env") as nothing:
        return subprocess.run(
            ["docker-compose", "--env-file", nothing.name, "-f", str(FILE), "config"],
            env={"PATH": os.environ["PATH"]} | environment,
            capture_output=True,
            text=True,
        )


@pytest.mark.parametrize("profile", PROFILES)
def test_compose_takes_it(profile: str) -> None:
    done = config(COMPOSE_PROFILES=profile, **SECRETS)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert {"api", "postgres", "redis", "prometheus", "grafana"} <= set(services)


@pytest.mark.parametrize("missing", SECRETS)
def test_no_secret_has_a_default(missing: str) -> None:
    done = config(**{name: value for name, value in SECRETS.items() if name != missing})
    assert done.returncode != 0
    assert f"set {missing} in .env" in done.stderr


def test_every_variable_is_explained() -> None:
    """In the file that is copied to .env, and in the installation's steps or the settings."""
    used = set(re.findall(r"\$\{([A-Z_]+)", TEXT))
    example = (PROJECT_ROOT / "deploy" / "compose.env.example").read_text()
    explained = set(re.findall(r"^#?([A-Z_]+)=", example, flags=re.M))
    assert used | {"COMPOSE_PROFILES"} == explained
    own = used - SETTINGS
    install = (PROJECT_ROOT / "docs" / "install.md").read_text()
    assert [name for name in sorted(own) if f"`{name}`" not in install] == []


def test_services_get_settings_that_exist() -> None:
    for name in ("api", "triton-cpu", "export"):
        given = set(CONTENT["services"][name]["environment"])
        assert given <= SETTINGS, name


def test_defaults_are_the_settings_own() -> None:
    for name, default in re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", TEXT):
        if name in SETTINGS:
            field = Settings.model_fields[name.lower()].default
            assert type(field)(default) == field, name


def test_only_the_api_has_a_door_to_the_outside() -> None:
    """Triton and Prometheus publish nothing; what else does so listens on loopback."""
    for name, service in CONTENT["services"].items():
        for port in service.get("ports", []):
            assert name == "api" or port.startswith("127.0.0.1:"), f"{name}: {port}"
    assert "ports" not in CONTENT["services"]["triton"]
    assert CONTENT["services"]["triton"]["networks"] == ["inside"]
    assert CONTENT["networks"]["inside"] == {"internal": True}


def test_ports_are_those_of_the_settings() -> None:
    defaults = {name: Settings.model_fields[name].default for name in ("port", "triton_grpc_port")}
    services = CONTENT["services"]
    assert services["api"]["ports"] == [f"${{PORT:-{defaults['port']}}}:{defaults['port']}"]
    assert services["api"]["environment"]["TRITON_URL"].endswith(f":{defaults['triton_grpc_port']}")
    assert services["triton-cpu"]["networks"]["inside"]["aliases"] == ["triton"]
    scraped = (PROJECT_ROOT / "deploy/prometheus/prometheus.yml").read_text()
    assert f"api:{defaults['port']}" in scraped
    assert f"triton:{Settings.model_fields['triton_metrics_port'].default}" in scraped


def test_volumes_are_declared_and_files_exist() -> None:
    for name, service in CONTENT["services"].items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            known = source in CONTENT["volumes"]
            assert known or (PROJECT_ROOT / source).exists(), f"{name}: {source}"
        if "build" in service:
            assert (PROJECT_ROOT / service["build"]["dockerfile"]).exists()


def test_services_are_hardened() -> None:
    for name, service in CONTENT["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if name != "export":
            assert service["restart"] == "unless-stopped", name
            assert "healthcheck" in service or name == "api", name  # the API's is in its image
        if name not in ("triton", "export"):  # NVIDIA's server writes beside itself
            assert service["read_only"] is True, name


def test_images_are_pinned_by_version() -> None:
    for name, service in CONTENT["services"].items():
        image = re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[\w./-]+:v?\d+\.\d+[\w.-]*\}", service["image"])
        assert image, f"{name}: {service['image']}"


@pytest.mark.parametrize("name", ["api", "triton", "export"])
def test_dockerfiles_pass_the_linter(name: str) -> None:
    done = subprocess.run(
        ["hadolint", str(PROJECT_ROOT / "deploy" / "docker" / f"{name}.Dockerfile")],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_dockerfiles_copy_exists() -> None:
    for path in (PROJECT_ROOT / "deploy" / "docker").glob("*.Dockerfile"):
        for line in re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+)$", path.read_text(), flags=re.M):
            *sources, _ = line.split()
            missing = [source for source in sources if not (PROJECT_ROOT / source).exists()]
            assert missing == [], path.name

"""The manifests are what Kubernetes takes, and say what the service needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from api.settings import PROJECT_ROOT, Settings
from tests.deploy.kustomize import Resource, build

KUBERNETES = PROJECT_ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(p.name for p in (KUBERNETES / "overlays").iterdir())
SECRET_SETTINGS = {"API_KEYS", "DATABASE_URL", "REDIS_URL", "WEBHOOK_SECRET"}


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> list[Resource]:
    return build(KUBERNETES / "overlays" / request.param)


def find(resources: list[Resource], kind: str, name: str) -> Resource:
    (found,) = [r for r in resources if (r["kind"], r["metadata"]["name"]) == (kind, name)]
    return found


def pods(resources: list[Resource]) -> Iterator[dict[str, Any]]:
    for resource in resources:
        if resource["kind"] in ("Deployment", "Job"):
            yield resource["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_our_renderer_agrees_with_kubectl(name: str) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl isn't here; the overlays are rendered by tests/deploy/kustomize.py")
    folder = KUBERNETES / "overlays" / name
    printed = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True
    ).stdout
    theirs = {(r["kind"], r["metadata"]["name"]): r for r in yaml.safe_load_all(printed)}
    ours = {(r["kind"], r["metadata"]["name"]): r for r in build(folder)}
    assert ours == theirs


def test_every_resource_fits_its_schema(overlay: list[Resource]) -> None:
    own = [r for r in overlay if not r["apiVersion"].startswith("keda.sh/")]
    assert len(own) >= 15
    for resource in own:
        kubernetes_validate.validate(resource, "1.31", strict=True)


def test_the_schemas_refuse_what_is_wrong(overlay: list[Resource]) -> None:
    deployment = find(overlay, "Deployment", "api")
    deployment["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.31", strict=True)


def test_components_fit_their_schemas() -> None:
    horizontal = yaml.safe_load(
        (KUBERNETES / "components/prometheus-adapter/triton.yaml").read_text()
    )
    kubernetes_validate.validate(horizontal, "1.31", strict=True)
    assert horizontal["spec"]["scaleTargetRef"]["name"] == "triton"


def test_settings_exist_and_secrets_are_not_in_the_open(overlay: list[Resource]) -> None:
    given = set(find(overlay, "ConfigMap", "voice-analytics")["data"])
    given |= {
        variable["name"]
        for pod in pods(overlay)
        for c in pod["containers"]
        for variable in c.get("env", [])
    }
    assert given <= {name.upper() for name in Settings.model_fields}
    assert not given & SECRET_SETTINGS


def test_every_pod_is_hardened(overlay: list[Resource]) -> None:
    for pod in pods(overlay):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]


def test_what_is_mounted_is_a_volume_and_what_is_claimed_exists(overlay: list[Resource]) -> None:
    claims = {r["metadata"]["name"] for r in overlay if r["kind"] == "PersistentVolumeClaim"}
    for pod in pods(overlay):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims


def test_a_pod_has_the_time_to_finish_what_it_accepted(overlay: list[Resource]) -> None:
    """preStop and the longest request fit in the grace period: nothing accepted is cut off."""
    pod = find(overlay, "Deployment", "api")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    pause_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    timeout_s = float(find(overlay, "ConfigMap", "voice-analytics")["data"]["REQUEST_TIMEOUT"])
    assert pod["terminationGracePeriodSeconds"] >= pause_s + timeout_s


def test_triton_is_behind_a_headless_service_and_closed_to_all_but_the_api(
    overlay: list[Resource],
) -> None:
    assert find(overlay, "Service", "triton")["spec"]["clusterIP"] == "None"
    policy = find(overlay, "NetworkPolicy", "triton")["spec"]
    doors = {port["port"]: rule["from"] for rule in policy["ingress"] for port in rule["ports"]}
    (caller,) = doors["grpc"]
    assert caller["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "api"}
    assert policy["egress"] == []


def test_gpu_triton_starts_as_compose_starts_it() -> None:
    """One command line for NVIDIA's server, wherever it runs."""
    deployment = find(build(KUBERNETES / "overlays" / "gpu"), "Deployment", "triton")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    compose = yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text())
    assert container["command"] == compose["services"]["triton"]["command"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["resources"]["limits"]["memory"] == "8Gi"


def test_the_autoscalers_ask_for_a_rule_that_prometheus_records() -> None:
    rules = yaml.safe_load((PROJECT_ROOT / "deploy/prometheus/rules.yml").read_text())
    recorded = {rule.get("record") for group in rules["groups"] for rule in group["rules"]}
    keda = (KUBERNETES / "components/keda/triton.yaml").read_text()
    adapter = (KUBERNETES / "components/prometheus-adapter/rule.yaml").read_text()
    for text in (keda, adapter):
        asked = set(re.findall(r"triton:[a-z_:0-9]+", text))
        assert asked and asked <= recorded


def test_nvidias_python_writes_nothing_beside_a_version() -> None:
    (triton,) = find(build(KUBERNETES / "overlays" / "gpu"), "Deployment", "triton")["spec"][
        "template"
    ]["spec"]["containers"]
    mounts = {mount["name"]: mount for mount in triton["volumeMounts"]}
    assert mounts["models"] == {"name": "models", "mountPath": "/models", "readOnly": True}
    assert not mounts["data"].get("readOnly")

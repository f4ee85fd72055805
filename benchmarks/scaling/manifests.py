"""What deploy/kubernetes tells the autoscaler: a ScaledObject of KEDA, or an HPA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from benchmarks.errors import UsageError
from benchmarks.scaling.hpa import DEFAULT_DOWN, DEFAULT_UP, Policy, Rules, Scaling


def read(path: Path) -> Scaling:
    """The autoscaler that a manifest describes.

    Raises:
        UsageError: the file can't be read, or holds no autoscaler on one value.
    """
    try:
        documents = [d for d in yaml.safe_load_all(path.read_text()) if d]
        by_kind = {document["kind"]: document["spec"] for document in documents}
        if "ScaledObject" in by_kind:
            return _of_keda(by_kind["ScaledObject"])
        return _of_hpa(by_kind["HorizontalPodAutoscaler"])
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error}") from error
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} describes no autoscaler on one value: {error!r}") from error


def _of_keda(spec: dict[str, Any]) -> Scaling:
    (trigger,) = spec["triggers"]
    if trigger["metricType"] != "Value":
        raise ValueError(f"metricType {trigger['metricType']}")
    options = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {})
    return _scaling(
        float(trigger["metadata"]["threshold"]),
        spec.get("minReplicaCount", 0),
        spec.get("maxReplicaCount", 100),
        options.get("behavior", {}),
    )


def _of_hpa(spec: dict[str, Any]) -> Scaling:
    (metric,) = spec["metrics"]
    target = metric["external"]["target"]
    if target["type"] != "Value":
        raise ValueError(f"target of type {target['type']}")
    value = _quantity(str(target["value"]))
    least, most = spec.get("minReplicas", 1), spec["maxReplicas"]
    return _scaling(value, least, most, spec.get("behavior", {}))


def _quantity(text: str) -> float:
    """Kubernetes' numbers: `1`, `1.5`, `1500m`."""
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _scaling(target: float, least: int, most: int, behavior: dict[str, Any]) -> Scaling:
    if target <= 0 or least < 1 or most < least:
        raise ValueError(f"target {target}, {least} to {most} replicas")
    up = _rules(behavior.get("scaleUp", {}), DEFAULT_UP)
    down = _rules(behavior.get("scaleDown", {}), DEFAULT_DOWN)
    return Scaling(target, least, most, up, down)


def _rules(given: dict[str, Any], default: Rules) -> Rules:
    policies = [
        Policy(policy["type"], policy["value"], policy["periodSeconds"])
        for policy in given.get("policies", [])
    ]
    return Rules(
        given.get("stabilizationWindowSeconds", default.stabilisation_s),
        policies or default.policies,
        given.get("selectPolicy", default.select),
    )

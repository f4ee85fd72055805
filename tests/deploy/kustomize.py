"""What `kubectl kustomize` makes of our overlays, for machines without kubectl.

Knows just what `deploy/kubernetes` uses: resources, components, strategic merge patches, labels and
a namespace. `test_kubernetes.py` holds it against kubectl where there is one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]

_CLUSTER_WIDE = {"Namespace"}
_KNOWN = {
    "apiVersion",
    "kind",
    "namespace",
    "labels",
    "resources",
    "components",
    "patches",
}


def build(folder: Path) -> list[Resource]:
    """The resources of an overlay, as kustomize would print them, in no order."""
    resources = _apply(folder, [])
    return resources


def _apply(folder: Path, resources: list[Resource]) -> list[Resource]:
    layer = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = set(layer) - _KNOWN
    if unknown:
        raise ValueError(f"{folder}: this renderer knows nothing of {sorted(unknown)}")
    for name in layer.get("resources", []):
        resources = [*resources, *_load(folder / name)]
    for name in layer.get("components", []):
        resources = _apply(folder / name, resources)
    for patch in layer.get("patches", []):
        for change in yaml.safe_load_all((folder / patch["path"]).read_text()):
            (target,) = [r for r in resources if _identity(r) == _identity(change)]
            resources = [_merge(r, change) if r is target else r for r in resources]
    for resource in resources:
        _place(resource, layer)
    return resources


def _load(path: Path) -> list[Resource]:
    return build(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))


def _identity(resource: Resource) -> tuple[str, str]:
    return resource["kind"], resource["metadata"]["name"]


def _place(resource: Resource, layer: dict[str, Any]) -> None:
    metadata = resource["metadata"]
    if "namespace" in layer and resource["kind"] not in _CLUSTER_WIDE:
        metadata["namespace"] = layer["namespace"]
    for labels in layer.get("labels", []):
        metadata["labels"] = metadata.get("labels", {}) | labels["pairs"]


def _merge(old: Any, new: Any) -> Any:
    """Strategic merge: mappings by key, lists of named things by name, other lists replaced."""
    if isinstance(old, dict) and isinstance(new, dict):
        merged = dict(old)
        for key, value in new.items():
            merged[key] = _merge(old[key], value) if key in old else value
        return merged
    if _are_named(old) and _are_named(new):
        by_name = {item["name"]: item for item in old}
        for item in new:
            by_name[item["name"]] = _merge(by_name.get(item["name"], {}), item)
        return list(by_name.values())
    return new


def _are_named(items: Any) -> bool:
    return isinstance(items, list) and all(isinstance(i, dict) and "name" in i for i in items)

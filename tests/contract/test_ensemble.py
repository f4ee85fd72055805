"""The ensemble's committed config against what the API declares."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from api.repository import COMMITTED_REPOSITORY, ENSEMBLE
from api.services import ensemble
from api.tensors import TensorSpec


def declared(specs: tuple[TensorSpec, ...]) -> set[tuple[str, str, tuple[int, ...]]]:
    return {(spec.name, f"TYPE_{spec.datatype}", spec.dims) for spec in specs}


@pytest.mark.parametrize("side", ["input", "output"])
def test_tensors_are_those_that_the_api_declares(side: str) -> None:
    text = (COMMITTED_REPOSITORY / ENSEMBLE / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert config.name == ensemble.SPEC.name
    assert {
        (field.name, model_config_pb2.DataType.Name(field.data_type), tuple(field.dims))
        for field in getattr(config, side)
    } == declared(ensemble.SPEC.inputs if side == "input" else ensemble.SPEC.outputs)

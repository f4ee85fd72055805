"""Matrices stored as int8: what is stored, what is left alone, and what a graph then computes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.int8_weights import store_int8

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it reports each import

import openvino  # noqa: E402

ROWS, INNER, COLUMNS = 5, 64, 12


@pytest.fixture
def matrix() -> NDArray[np.float32]:
    """Columns of very different size, one of them zero."""
    values = np.random.default_rng(0).standard_normal((INNER, COLUMNS)).astype(np.float32)
    values *= np.geomspace(1e-3, 1e3, COLUMNS, dtype=np.float32)
    values[:, 3] = 0.0
    return values


@pytest.fixture
def model(matrix: NDArray[np.float32]) -> onnx.ModelProto:
    """x @ matrix, twice, times the transpose of itself."""
    nodes = [
        helper.make_node("MatMul", ["x", "matrix"], ["first"]),
        helper.make_node("MatMul", ["x", "matrix"], ["second"]),
        helper.make_node("Transpose", ["second"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["first", "turned"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [ROWS, INNER])],
        [
            helper.make_tensor_value_info("first", TensorProto.FLOAT, [ROWS, COLUMNS]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [ROWS, ROWS]),
        ],
        [numpy_helper.from_array(matrix, "matrix")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_each_column_is_off_by_half_a_step_of_its_own_at_most(
    model: onnx.ModelProto, matrix: NDArray[np.float32]
) -> None:
    store_int8(model)

    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    assert set(stored) == {"matrix.int8", "matrix.scales"}, "stored once, and the floats are gone"
    assert stored["matrix.int8"].dtype == np.int8
    restored = stored["matrix.int8"] * stored["matrix.scales"]
    steps = np.abs(matrix).max(axis=0) / 127
    assert (np.abs(restored - matrix) <= 0.5001 * steps).all()


def test_products_of_two_activations_stay_as_they_are(model: onnx.ModelProto) -> None:
    store_int8(model)

    *_, last = (node for node in model.graph.node if node.op_type == "MatMul")
    assert list(last.input) == ["first", "turned"]
    onnx.checker.check_model(model)


def test_two_runtimes_compute_the_same(model: onnx.ModelProto, tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((ROWS, INNER)).astype(np.float32)
    store_int8(model)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = session.run(["first"], {"x": x})[0]
    served = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)["first"]

    scale = np.abs(expected).max(axis=0) + 1e-6
    assert (np.abs(served - expected) <= 0.02 * scale).all()

"""How a model's inputs and outputs are declared: once, here and in `api.services`.

A contract test holds every `config.pbtxt` to these declarations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TensorSpec:
    """One tensor: Triton's datatype, and its shape without the batch dimension (-1 = any)."""

    name: str
    datatype: Literal["FP32", "STRING"]
    dims: tuple[int, ...]


@dataclass(frozen=True)
class ModelSpec:
    """One Triton model: what goes in and what comes out."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


Tensors = dict[str, NDArray[np.float32] | NDArray[np.object_]]
"""Tensors by name, each with a leading batch dimension; STRING tensors hold `bytes`."""

"""Whisper's encoder on a CPU, in OpenVINO.

It multiplies in int8, and the rest, attention too, in bfloat16, where the processor can (AVX-512
VNNI and BF16, AMX): on an AMD EPYC whisper-base takes 0.41 s of processor time for 30 s, where
onnxruntime, which has no bfloat16 on a CPU, took 0.57.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it reports each import

import openvino  # noqa: E402

Precision = Literal["fp32", "int8"]

CLIP_SAMPLES: Final = 480_000
"""30 s at 16 kHz: what the encoder always sees."""

_ATTEMPTS: Final = 3
"""Times that it is compiled, if it is wrong each time, until the load fails."""

_MAX_DIFFERENCE: Final = 0.05
"""Between two ways of encoding the same sound, as a share of the numbers' norm; measured: 0."""

_QUANTIZED_TOGETHER: Final = 512
"""Activations that share a scale in an int8 product; below, rescaling costs more than it gains."""

_PRECISIONS: Final[dict[Precision, dict[str, Any]]] = {
    "fp32": {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0},
    "int8": {
        "INFERENCE_PRECISION_HINT": "bf16",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": _QUANTIZED_TOGETHER,
    },
}


class CpuEncoder:
    """encoder.onnx, ready to encode one clip on all threads or one clip on each."""

    def __init__(self, path: Path, threads: int, precision: Precision) -> None:
        """
        Raises:
            RuntimeError: OpenVINO can't read the file, or what it makes of it is wrong each time.
        """
        self._core = openvino.Core()
        self._model = self._core.read_model(path)
        self._model.reshape([1, CLIP_SAMPLES])
        self._outputs = {output.any_name: output for output in self._model.outputs}
        for _ in range(_ATTEMPTS):
            self._compile(threads, precision)
            if self._agrees_with_itself():
                return
        raise RuntimeError(f"OpenVINO's threads don't agree on what {path} makes of the same sound")

    def encode(self, clips: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
        """Each output by name, (count, …); a clip's numbers don't depend on its neighbours.

        clips: float32, (num_samples,) each, up to 30 s.

        As many clips as there are threads are done sooner side by side than one after the other on
        all threads: nobody waits for anybody between operators.
        """
        answers = {
            name: np.empty((len(clips), *output.shape[1:]), output.element_type.to_dtype())
            for name, output in self._outputs.items()
        }
        side_by_side = len(clips) - len(clips) % len(self._side_by_side)
        for first in range(0, side_by_side, len(self._side_by_side)):
            for place, request in enumerate(self._side_by_side, first):
                self._bind(request, clips[place], answers, place)
                request.start_async()
            for request in self._side_by_side:
                request.wait()
        for place in range(side_by_side, len(clips)):
            self._bind(self._whole, clips[place], answers, place)
            self._whole.infer()
        return answers

    def _compile(self, threads: int, precision: Precision) -> None:
        def compiled(streams: int) -> openvino.CompiledModel:
            config = _config(threads, streams, precision)
            return self._core.compile_model(self._model, "CPU", config)

        self._whole = compiled(1).create_infer_request()
        self._side_by_side = [self._whole]
        if threads > 1:
            single = compiled(threads)
            self._side_by_side = [single.create_infer_request() for _ in range(threads)]

    def _agrees_with_itself(self) -> bool:
        """Whether noise becomes the same numbers on all threads together and on each.

        A model for several threads is compiled on all of them at once, and in one of some hundred
        starts what OpenVINO 2026.4 made was wrong from then on: not a number, for every batch.
        """
        noise = np.random.default_rng(0).normal(0, 0.1, CLIP_SAMPLES).astype(np.float32)
        whole = self.encode([noise])
        single = self.encode([noise] * len(self._side_by_side))
        return all(_is_same(row, whole[name][0]) for name, rows in single.items() for row in rows)

    def _bind(
        self,
        request: openvino.InferRequest,
        clip: NDArray[np.float32],
        answers: Mapping[str, NDArray[Any]],
        place: int,
    ) -> None:
        """Copies a clip into the request, and has it write its part of each answer in place."""
        audio = request.input_tensors[0].data
        audio[0, : clip.size] = clip
        audio[0, clip.size :] = 0.0
        for name, answer in answers.items():
            request.set_tensor(name, openvino.Tensor(answer[place : place + 1], shared_memory=True))


def _is_same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """But for rounding; never where one of the numbers isn't one."""
    there = other.astype(np.float32)
    return bool(np.linalg.norm(one - there) <= _MAX_DIFFERENCE * np.linalg.norm(there))


def _config(threads: int, streams: int, precision: Precision) -> dict[str, Any]:
    """Threads aren't pinned: the other models' are on the same cores."""
    return {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        "ENABLE_CPU_PINNING": False,
        **_PRECISIONS[precision],
    }

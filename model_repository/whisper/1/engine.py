"""The two graphs, on a CPU or a GPU: in onnxruntime, but for the encoder on a CPU.

Caches stay where the graphs run: on a GPU nothing but tokens and logits crosses the bus at each
step. On a CPU a clip's part of the encoder's answer is a view, never a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime import InferenceSession, OrtValue

from generation import CLIP_SAMPLES, Sizes

Provider = Literal["cpu", "cuda", "tensorrt"]
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


_KEPT = "kept_"
"""Outputs of an int8 decoder that lie where the inputs of the rest of their name lie."""

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8}


@dataclass(frozen=True)
class EngineSettings:
    """How to run the graphs.

    Attributes:
        provider: `tensorrt` runs the encoder in TensorRT and the decoder, whose cache grows by one
            each step, in CUDA.
        max_clips: largest batch, the upper bound of TensorRT's shape profile.
        engine_cache: folder where TensorRT keeps the engine that it built.
    """

    provider: Provider = "cpu"
    intra_op_threads: int = 2
    device_id: int = 0
    max_clips: int = 16
    engine_cache: Path | None = None


@dataclass(frozen=True)
class EncodedClips:
    """What the encoder made of `count` clips, where the decoder runs.

    Attributes:
        values: cross-attention keys and values, per layer (count, heads, head_dim, 1500) and
            (count, heads, 1500, head_dim); in int8 both (count, heads, 1500, head_dim), and their
            scales (count, 1, d_model).
        arrays: on a CPU the arrays that `values` stand on; empty on a GPU.
    """

    values: tuple[OrtValue, ...]
    count: int
    arrays: tuple[NDArray[Any], ...] = ()


@dataclass(frozen=True)
class Cache:
    """Self-attention keys and values: per layer twice (clips, group, heads, length, head_dim)."""

    values: tuple[OrtValue, ...]


@dataclass(frozen=True)
class Pass:
    """One run of the decoder.

    logits: float32, (clips, group, positions, vocab), for the caller to write into; alignment:
    (clips, alignment heads, group * length, 1500), scores before the softmax; of no clip where an
    int8 decoder reads one token for each.
    """

    logits: Floats
    alignment: OrtValue = field(repr=False)
    cache: Cache


class Engine:
    """Sessions for encoder.onnx and decoder.onnx of one version folder."""

    def __init__(self, folder: Path, sizes: Sizes, settings: EngineSettings) -> None:
        self.sizes = sizes
        self.on_cpu = settings.provider == "cpu"
        self._device = "cpu" if self.on_cpu else "cuda"
        self._device_id = settings.device_id
        options = _session_options(settings.intra_op_threads)
        decoder_provider: Provider = "cpu" if self.on_cpu else "cuda"
        self._decoder = InferenceSession(
            str(folder / "decoder.onnx"), options, _providers(settings, decoder_provider)
        )
        names = [tensor.name for tensor in self._decoder.get_inputs()]
        self._past_names = [name for name in names if name.startswith("past_")]
        self._cross_names = [name for name in names if name.startswith("cross_")]
        outputs = [output.name for output in self._decoder.get_outputs()]
        self._kept = [name.removeprefix(_KEPT) for name in outputs if name.startswith(_KEPT)]
        self._output_names = [name for name in outputs if not name.startswith((_KEPT, "logits"))]
        self._dtype = _DTYPES[self._decoder.get_inputs()[names.index("past_key_0")].type]
        if self.on_cpu:
            from cpu_encoder import CpuEncoder  # where a GPU computes there is no OpenVINO

            self._encode_clips = CpuEncoder(
                folder / "encoder.onnx",
                settings.intra_op_threads,
                "int8" if self._kept else "fp32",
            ).encode
        else:
            self._encoder = InferenceSession(
                str(folder / "encoder.onnx"), options, _providers(settings)
            )

    def encode(self, clips: Sequence[Floats]) -> EncodedClips:
        """Encodes clips of up to 30 s, each float32, (num_samples,).

        On a CPU no clip's numbers depend on its neighbours; a GPU encodes them together.
        """
        if self.on_cpu:
            answers = self._encode_clips(clips)
            return self._on_device([answers[name] for name in self._cross_names])
        return EncodedClips(tuple(self._encode_on_device(clips)), len(clips))

    def select(self, encoded: EncodedClips, rows: Sequence[int]) -> EncodedClips:
        """The clips at `rows`, in that order; all of them or, on a CPU, neighbours cost no copy."""
        if list(rows) == list(range(encoded.count)):
            return encoded
        arrays = encoded.arrays or tuple(value.numpy() for value in encoded.values)
        first, last = rows[0], rows[0] + len(rows)
        if list(rows) == list(range(first, last)):
            return self._on_device([array[first:last] for array in arrays])
        return self._on_device([array[list(rows)] for array in arrays])

    def empty_cache(self, clips: int, group: int) -> Cache:
        """The cache before the first token, of `group` rows for each clip."""
        empty = np.zeros((clips, group, self.sizes.heads, 0, self.sizes.head_dim), self._dtype)
        return Cache(tuple(self._to_device(empty) for _ in self._past_names))

    def keep(self, cache: Cache, clips: Sequence[int]) -> Cache:
        """A copy of the clips of a cache that go on."""
        return Cache(tuple(self._to_device(value.numpy()[list(clips)]) for value in cache.values))

    def reorder(self, cache: Cache, sources: NDArray[np.intp]) -> Cache:
        """A copy in which each row continues another of its clip; sources: (clips, group)."""
        clips = np.arange(len(sources))[:, None]
        return Cache(
            tuple(self._to_device(value.numpy()[clips, sources]) for value in cache.values)
        )

    def decode(
        self,
        tokens: Integers,
        padding: Integers,
        logit_positions: Sequence[int],
        cache: Cache,
        encoded: EncodedClips,
    ) -> Pass:
        """Reads `tokens`, int64, (clips, group, length), after what the cache holds.

        padding: int64, (clips,), padding columns at the left of a clip's rows since the cache was
        empty.
        logit_positions: columns of `tokens` whose logits are wanted.

        Int8 keys and values can be read by one row of each clip or by many rows of one clip.
        """
        if not self._kept or tokens.shape[1:] == (1, 1) or len(tokens) == 1:
            return self._decode(tokens, padding, logit_positions, cache, encoded)
        one_by_one = [
            self._decode(
                tokens[clip : clip + 1],
                padding[clip : clip + 1],
                logit_positions,
                self.keep(cache, [clip]),
                self.select(encoded, [clip]),
            )
            for clip in range(len(tokens))
        ]
        return self._together(one_by_one)

    def _decode(
        self,
        tokens: Integers,
        padding: Integers,
        logit_positions: Sequence[int],
        cache: Cache,
        encoded: EncodedClips,
    ) -> Pass:
        binding = self._decoder.io_binding()
        binding.bind_cpu_input("tokens", np.ascontiguousarray(tokens))
        binding.bind_cpu_input("padding", np.ascontiguousarray(padding))
        binding.bind_cpu_input("logit_positions", np.array(logit_positions, np.int64))
        for name, value in zip(self._past_names, cache.values, strict=True):
            binding.bind_ortvalue_input(name, value)
        for name, value in zip(self._cross_names, encoded.values, strict=True):
            binding.bind_ortvalue_input(name, value)
        logits = np.empty((*tokens.shape[:2], len(logit_positions), self.sizes.vocab), np.float32)
        where = logits.ctypes.data
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, where)
        for name in self._output_names:
            binding.bind_output(name, self._device, self._device_id)
        for name, value in zip(self._cross_names, encoded.values, strict=True):
            if name in self._kept:
                binding.bind_ortvalue_output(f"{_KEPT}{name}", value)
        self._decoder.run_with_iobinding(binding)
        _, alignment, *present = binding.get_outputs()[: 1 + len(self._output_names)]
        return Pass(logits, alignment, Cache(tuple(present)))

    def _together(self, passes: Sequence[Pass]) -> Pass:
        """The passes of several clips as one of them all."""
        logits = np.concatenate([one.logits for one in passes])
        alignment = np.concatenate([one.alignment.numpy() for one in passes])
        caches = zip(*(one.cache.values for one in passes), strict=True)
        joined = [np.concatenate([value.numpy() for value in values]) for values in caches]
        cache = Cache(tuple(self._to_device(value) for value in joined))
        return Pass(logits, self._to_device(alignment), cache)

    def _encode_on_device(self, clips: Sequence[Floats]) -> Sequence[OrtValue]:
        binding = self._encoder.io_binding()
        binding.bind_cpu_input("audio", _padded(clips))
        for name in self._cross_names:
            binding.bind_output(name, self._device, self._device_id)
        self._encoder.run_with_iobinding(binding)
        outputs: Sequence[OrtValue] = binding.get_outputs()
        return outputs

    def _on_device(self, arrays: Sequence[NDArray[Any]]) -> EncodedClips:
        values = tuple(self._to_device(array) for array in arrays)
        return EncodedClips(values, len(arrays[0]), tuple(arrays) if self.on_cpu else ())

    def _to_device(self, array: NDArray[Any]) -> OrtValue:
        return OrtValue.ortvalue_from_numpy(array, self._device, self._device_id)


def _session_options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A step is hundreds of small products: threads that sleep in between take a fifth longer. When
    # the step is done they do sleep, and leave the cores to the other models.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    return options


def _providers(
    settings: EngineSettings, provider: Provider | None = None
) -> list[str | tuple[str, dict[str, Any]]]:
    wanted = provider or settings.provider
    chain: list[str | tuple[str, dict[str, Any]]] = ["CPUExecutionProvider"]
    if wanted in ("cuda", "tensorrt"):
        chain.insert(0, ("CUDAExecutionProvider", {"device_id": settings.device_id}))
    if wanted == "tensorrt":
        chain.insert(0, ("TensorrtExecutionProvider", _tensorrt_options(settings)))
    return chain


def _tensorrt_options(settings: EngineSettings) -> dict[str, Any]:
    """A shape profile: without one, each new batch size builds an engine for half a minute."""
    options: dict[str, Any] = {
        "device_id": settings.device_id,
        "trt_profile_min_shapes": f"audio:1x{CLIP_SAMPLES}",
        "trt_profile_opt_shapes": f"audio:{(settings.max_clips + 1) // 2}x{CLIP_SAMPLES}",
        "trt_profile_max_shapes": f"audio:{settings.max_clips}x{CLIP_SAMPLES}",
    }
    if settings.engine_cache is not None:
        options["trt_engine_cache_enable"] = True
        options["trt_engine_cache_path"] = str(settings.engine_cache)
    return options


def _padded(clips: Sequence[Floats]) -> Floats:
    """Silence up to 30 s after each clip: (clips, 480000)."""
    batch = np.zeros((len(clips), CLIP_SAMPLES), np.float32)
    for row, clip in zip(batch, clips, strict=True):
        row[: clip.size] = clip
    return batch

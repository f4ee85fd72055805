# syntax=docker/dockerfile:1
# NVIDIA's server with what Whisper's token loop imports beside it.
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:24.10-py3
# hadolint ignore=DL3006
FROM ${TRITON_IMAGE}
# NumPy 2 makes this release's python backend return zero bytes.
RUN pip install --no-cache-dir "numpy==1.26.4" "onnxruntime-gpu==1.20.1" "tokenizers==0.21.0"
# Triton's own user in this image.
USER 1000

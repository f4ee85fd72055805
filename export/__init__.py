"""Checkpoint → ONNX → an immutable version folder of the Triton model repository.

`python -m export --help` is the command line. Importing this package is cheap: torch, transformers
and SpeechBrain are imported by the model exporters only, when one of them runs.
"""

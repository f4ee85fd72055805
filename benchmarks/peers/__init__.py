"""Others who do the same work, each in a process of its own behind one small HTTP interface.

They run in an environment of their own (benchmarks/requirements.txt) and import nothing of the
service. `python -m benchmarks.peers.server NAME --weights DIR --port N` starts one.
"""

from typing import Final

PEERS: Final = (
    "faster-whisper-1x2",
    "faster-whisper-2x1",
    "faster-whisper-batched",
    "openai-whisper",
    "transformers-fp32",
    "transformers-bf16",
    "whisper-cpp",
    "in-process-fastapi",
    "transformers-emotion",
    "speechbrain-speaker",
)
"""Their names. faster-whisper's say workers times threads, on two cores."""

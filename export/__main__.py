"""The command line: `python -m export …`."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

from export.cli import main

INTERRUPTED = 130
TERMINATED = 143
"""Exit statuses that a shell gives for SIGINT and SIGTERM."""


def _stop(signal_number: int, frame: object) -> NoReturn:
    """Ends as an exception does, so that a half-written version is removed."""
    sys.exit(TERMINATED)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)

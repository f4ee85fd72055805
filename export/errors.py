"""Everything that an export can fail with.

    ExportError
    ├── CheckpointError          the checkpoint is unknown, unreadable, or of another kind
    │   └── HubUnreachableError  a hub name was given and no hub answers
    ├── DependencyError          torch or another package of the export environment is missing
    ├── ParityError              the exported model doesn't answer as PyTorch does
    ├── OptionError              the options don't go together
    ├── VersionExistsError       a version folder is immutable
    └── ManifestError            a manifest is missing, unreadable, or a file differs from it

Messages are written for the person at the command line: what is wrong, and what to do about it.
"""

from __future__ import annotations


class ExportError(Exception):
    """Root of the tree; the command line prints its message and exits with status 1."""


class CheckpointError(ExportError):
    """The checkpoint is unknown, unreadable, or not of the kind that the model needs."""


class HubUnreachableError(CheckpointError):
    """A hub name was given, it isn't in the local cache, and no hub answers."""


class DependencyError(ExportError):
    """A package of the export environment can't be imported."""

    def __init__(self, cause: ModuleNotFoundError) -> None:
        super().__init__(
            f"the package '{cause.name}' is missing: exporting needs torch and its companions, "
            "serving doesn't. ./dev.sh export … makes the environment that has them, and runs "
            "this command in it"
        )


class ParityError(ExportError):
    """The exported model's answers differ from PyTorch's by more than the tolerance."""


class OptionError(ExportError):
    """The options don't go together, such as a precision that the target can't serve."""


class VersionExistsError(ExportError):
    """The version folder exists; a published version is never changed."""


class ManifestError(ExportError):
    """A manifest is missing or unreadable, or a file of the version isn't the one that it names."""

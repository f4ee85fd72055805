"""What can go wrong before a measurement: said in one sentence, never as a stack trace.

BenchmarkError
├── UsageError        an argument or a file that the caller gave can't be used
└── ServiceAway       nobody answers at the URL
"""


class BenchmarkError(Exception):
    """Base of all errors that the command line shows as one line."""


class UsageError(BenchmarkError):
    """An argument or a file that the caller gave can't be used."""


class ServiceAway(BenchmarkError):
    """Nobody answers at the URL, or what answers is no such service."""

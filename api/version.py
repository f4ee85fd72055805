"""The installed version of this project."""

from importlib.metadata import version

VERSION = version("voice-analytics")

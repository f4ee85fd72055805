"""The command `voice-analytics`."""

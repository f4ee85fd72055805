"""OpenAI's audio contract: its requests, answers, events and errors."""

"""FastAPI front end: decodes the audio, feeds Triton, assembles and keeps the answer."""

"""Live streams: the protocol of docs/streaming.md, and its blocking and asynchronous use."""

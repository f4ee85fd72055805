"""One file per model: windows into tensors, tensors into domain types; no I/O."""

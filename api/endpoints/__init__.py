"""One file per resource: parse, call, shape."""

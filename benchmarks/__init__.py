"""Measures the service from outside: how right its answers are, and how fast they come.

`python -m benchmarks --help` is the command line. Nothing here imports the service: it is asked
over HTTP, as anybody would.
"""

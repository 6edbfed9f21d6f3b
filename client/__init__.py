"""The Python API to a running service: small, synchronous, standard library only."""

"""The Python API to a running service: small, synchronous, standard library only."""

from canhazgpu.client.connection import Client, Refused, Unreachable, socket_path

__all__ = ["Client", "Refused", "Unreachable", "socket_path"]

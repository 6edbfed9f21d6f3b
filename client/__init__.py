"""The Python API to a running service: small, synchronous, standard library only."""

from canhazgpu.client.connection import Client, Refused, Unreachable, socket_path
from canhazgpu.client.reservations import Reservation, reserve

__all__ = ["Client", "Refused", "Reservation", "Unreachable", "reserve", "socket_path"]

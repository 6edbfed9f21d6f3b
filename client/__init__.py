"""The Python API of a running service: small, synchronous, and without dependencies."""

from canhazgpu.client.connection import BadSettings, Client, Refused, Unreachable, socket_path
from canhazgpu.client.reservations import Reservation, reserve

__all__ = ["BadSettings", "Client", "Refused", "Reservation", "Unreachable", "reserve", "socket_path"]

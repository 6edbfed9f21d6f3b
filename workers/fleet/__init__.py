"""Copies the streams and the state of this host to the fleet's Redis, unchanged.

In come the host's streams and hashes; out go the same under the same keys, on another Redis. It is imported
only if the host is in a fleet. What happens there never changes anything here. Start with `mirror`.
"""

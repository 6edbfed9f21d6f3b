"""The library for consumers in other systems: they read a host's streams, and write nothing there.

In come the address of a Redis and the name of a stream; out go typed events, each at least once. It never
stores anything in Redis but the position of its consumer group. Start with `consumer`.
"""

"""Reservations from the request to the release, and the queue.

In come requests, the ends of processes and the clock of Redis; out go reservations, refusals with their
reason, and events. It never reads a GPU itself, and every change is one Lua script. Start with `allocator`.
"""

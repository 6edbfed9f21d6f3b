"""The routes of reservations: those that live, those that ended, the caller's own, and the requests that wait.

In come requests of a peer whom the kernel identifies; out go what the allocator answered. They never decide who
gets a GPU. Start with `reservations`.
"""

"""The routes of reservations: live ones, ended ones, the caller's own, and the requests that wait.

In come requests of a peer whom the kernel identifies; out go the allocator's answers. They never decide which
request gets a GPU. Start with `reservations`.
"""

"""Commands for reservations: `run`, `reserve`, `extend`, `release`, `disown`, `cancel`, `queue` and `admin`.

In come options; out go requests to the service, and lines about what it answered. They never touch Redis or
a GPU. Start with `reserve`.
"""

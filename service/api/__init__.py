"""HTTP over the Unix socket, and the types of requests and responses.

In come bytes from a peer that the kernel names; out go requests that were checked, responses, and refusals
as RFC 9457 problems. It never decides anything about a GPU. Start with `server` and `context`.
"""

"""The daemon: it reads the GPUs, keeps reservations and serves the HTTP API.

In come readings of GPUs and requests over the socket; out go events in Redis and answers. It never notifies
anybody: workers do. Start with `daemon`, which puts the sub-packages together.
"""

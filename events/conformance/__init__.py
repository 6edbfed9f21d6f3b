"""Checks consumers that other people write, in any language, against events of every type on a real Redis.

In come a Redis for tests and a command; out go the differences. It never touches the streams of a host. Start
with `kit`.
"""

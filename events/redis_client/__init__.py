"""The connection to Redis, as every process uses it: one server, a Sentinel group or a Cluster.

In come the settings' endpoint and calls of Lua scripts; out go their raw replies, or `StoreDown` when no
answer came. It never interprets what it stores, and it never repeats a command by itself. Start with
`store`.
"""

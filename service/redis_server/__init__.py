"""The Redis server itself: which program runs it, how it is started, repaired and judged.

In come a state directory and the server's log; out go a running server and sentences about what is wrong
with it. It never looks at the keys. Start with `embedded`.
"""

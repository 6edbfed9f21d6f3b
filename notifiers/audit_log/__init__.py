"""The audit log: one JSON line per fact, in a hash chain that shows edits.

In come violation facts; out go lines in a file, and findings when the chain is verified. It never asks
Redis and never rewrites a line. Start with `writer` to append and with `verification` to check.
"""

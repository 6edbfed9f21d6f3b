"""Channels for notices: what each sends, how it delivers, and the audit log.

In come notices and violation facts; out go delivery outcomes, and lines in the audit log. It never touches
Redis, and it never decides whom to notify. Start with `registry`, which makes the channels that the
settings turn on.
"""

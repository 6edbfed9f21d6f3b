"""Silences: for some time nobody is notified of some violations.

In come a user, GPUs and a duration; out go silences and their events, also when they end. It never hides a
violation from the record, and no silence is without an end. Start with `lifecycle`.
"""

"""Violations over time: lists, the time line of one, and whether people were notified.

In come filters and the facts on the streams; out go rows and time lines. It never opens or closes a
violation, which the scan does, and it never changes anything. Start with `history`.
"""

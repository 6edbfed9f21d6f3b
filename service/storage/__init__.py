"""What Redis holds of a host, and how it is read, kept and trimmed.

In come keys and raw replies; out go records, snapshots and pages of streams. It never decides who gets a
GPU, and it never trims what an active consumer has not read. Start with `snapshot`.
"""

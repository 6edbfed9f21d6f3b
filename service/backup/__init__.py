"""Backup, restore and migration of a host's state.

In comes the state in one Redis; out go an archive, or the same state in another Redis. It never changes
what it reads, and it never leaves half a restore behind. Start with `archive` and `state_copy`.
"""

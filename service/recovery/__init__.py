"""Restores live reservations that Redis has lost.

In come the journal and what Redis holds now; out goes a plan, and the script that carries it out. It never
hands out a GPU that somebody was promised, and it decides nothing while the two agree. Start with
`reconciliation`.
"""

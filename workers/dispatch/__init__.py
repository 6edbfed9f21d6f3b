"""From facts to notices: who is notified of what, when, and on which channels.

In come events from the streams; out go notices, committed together with the next state of the episode. It
never sends anything itself, and its decisions never read a clock or Redis. Start with `dispatcher`.
"""

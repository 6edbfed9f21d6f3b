"""From readings to stored observations: the scan.

In come readings of a provider and the attribution of their processes; out goes one observation a scan, from
which a script opens and closes violations. It never decides about people, and a failed reading is never
idle. Start with `scanner`.
"""

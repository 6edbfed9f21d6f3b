"""`canhazgpu doctor`: what works on this host, what does not, and what to do about it.

In come the settings and the host as it is; out go findings, each with a remedy. A check never changes
anything and never sends a notice. Start with `doctor`.
"""

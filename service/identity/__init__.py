"""Who a process or a caller is, by what the kernel says.

In come PIDs and sockets; out go users with the evidence for them, or "unknown". It never trusts what a
process says about itself, and it never guesses. Start with `attribution`.
"""

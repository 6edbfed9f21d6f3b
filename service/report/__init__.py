"""What the host's GPUs did: GPU-hours by user, GPU, day and hour, from the log of use and the ledger.

In come the log that `service/gpus/lua/usage_log.lua` writes with each scan, the ledger, and the events of the
queue; out go sums. It never decides anything about a GPU or a user. Start with `report`.
"""

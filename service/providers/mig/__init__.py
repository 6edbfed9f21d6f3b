"""MIG instances, as NVML reports them and as GPUs of their own.

In come handles and answers of NVML; out go readings of a card's instances. It never guesses on which instance
a process runs: what the driver does not say is unknown. Start with `instances`, which the helper runs.
"""

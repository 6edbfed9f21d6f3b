"""Settings of what connects canhazgpu with a host: schedulers, containers, and the device files of GPUs.

In come tables of the settings file; out go records with their defaults. It never reads a file. Start with
`enforcement`.
"""

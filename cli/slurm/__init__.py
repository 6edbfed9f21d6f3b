"""`canhazgpu slurm`: what Slurm's daemons run on a node, as root, when a job begins and ends.

In come the variables that slurmd sets; out go requests to the service, and what Slurm is told to do with a
job that cannot have its GPUs. It never decides who gets a GPU. Start with `prolog`.
"""

"""The jobs of a scheduler on this node, which Slurm and PBS run commands for.

In come jobs and the directory that records them; out go requests to the service. It never talks to a
scheduler, and never decides who gets a GPU. Start with `held`.
"""

"""`canhazgpu pbs`: what Torque's pbs_mom and the hook for OpenPBS run on a node, as root, for each job.

In come the arguments of Torque's prologue and epilogue; out go requests to the service, and an exit code that
says whether the job may start. It never decides who gets a GPU. Start with `prologue`.
"""

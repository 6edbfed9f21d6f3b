"""`canhazgpu oci`: what container runtimes run before a container starts, to ask about its GPUs.

In come the configuration of a container (OCI runtime specification) and the answer of the service; out go the
same configuration, with fewer GPUs if it asked for all, and a refusal. It never decides who may use a GPU.
Start with `configuration`.
"""

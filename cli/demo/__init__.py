"""`canhazgpu demo`: the whole product on simulated GPUs, in one temporary folder.

In comes nothing but a place to work in; out goes a story told on the terminal. It never touches the
service, the GPUs or the mail of this host. Start with `demo`.
"""

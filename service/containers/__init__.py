"""Decides whether a container may start on the GPUs that it asks for.

In come what a container asks for, who is proven to have started it, and the state of the host; out goes a
decision with its reason. It never believes what a container says of its user. Start with `decision`.
"""

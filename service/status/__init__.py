"""The host as other programs read it: the state of each GPU, and of the queue.

In comes one snapshot; out go plain objects, ready for JSON. It is pure: it never reads Redis and never
guesses what a reading left open. Start with `gpu_status`.
"""

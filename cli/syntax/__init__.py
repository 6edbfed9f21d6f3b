"""How users write things on the command line, and what to tell those who write them otherwise.

In come words; out go values and hints. It never talks to the service. Start with `gpu_list`.
"""

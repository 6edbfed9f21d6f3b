"""How facts of the service look on a terminal: tables that fit its width, bars and colours.

In come objects of the API's JSON; out go lines of text. It never asks the service and never prints.
Start with `gpu_table`.
"""

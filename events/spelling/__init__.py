"""How lists of things are spelled in sentences for people.

In come plain values; out go pieces of a sentence. It never looks anything up. Start with `gpu_ranges`.
"""

"""The vocabulary every part of canhazgpu shares: facts, their envelope, and where they are kept."""

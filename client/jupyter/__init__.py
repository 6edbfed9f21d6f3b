"""canhazgpu in a notebook: the magic, the variables of the kernel, and warnings before it uses others' GPUs.

In come cells and the libraries that they import; out go command lines of `canhazgpu`, changed environment
variables and lines for the reader. It never imports a library that uses GPUs, and never fails a cell of the
user by a warning. Start with `magic`.
"""

"""Executes the cells of a notebook in a real kernel, one for each line of JSON on standard input.

It runs in the environment of the notebooks, by its interpreter: see tests/support/notebook.py.
"""

import asyncio
import json
import sys

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook


async def main() -> None:
    """Start a kernel, execute what comes, and shut the kernel down as Jupyter does."""
    notebook = new_notebook()
    client = NotebookClient(notebook, timeout=240, kernel_name="python3")
    loop = asyncio.get_running_loop()
    async with client.async_setup_kernel():
        print(json.dumps({"pid": client.km.provisioner.pid}), flush=True)  # noqa: T201 - read by the test
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            cell = new_code_cell(json.loads(line))
            notebook.cells.append(cell)
            failure = ""
            try:
                await client.async_execute_cell(cell, len(notebook.cells) - 1)
            except CellExecutionError as error:
                failure = f"{error.ename}: {error.evalue}"
            text = "".join(one.get("text", "") for one in cell.outputs)
            print(json.dumps({"text": text, "error": failure}), flush=True)  # noqa: T201


asyncio.run(main())

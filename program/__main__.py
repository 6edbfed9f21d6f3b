"""Runs the command: `python -m canhazgpu`."""

from canhazgpu.cli.main import main

if __name__ == "__main__":
    main()

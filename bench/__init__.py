"""What canhazgpu costs: `python -m bench` measures, in one run, each thing beside a named yardstick."""

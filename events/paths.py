"""Where a host keeps its service's socket, settings and state unless it is told otherwise."""

SOCKET = "/run/canhazgpu/canhazgpu.sock"
CONFIG = "/etc/canhazgpu/config.toml"
STATE_DIR = "/var/lib/canhazgpu"

"""The default paths of the socket, the settings and the state."""

SOCKET = "/run/canhazgpu/canhazgpu.sock"
CONFIG = "/etc/canhazgpu/config.toml"
STATE_DIR = "/var/lib/canhazgpu"

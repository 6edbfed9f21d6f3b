"""The default paths of the socket, the settings and the state, and where the log is."""

SOCKET = "/run/canhazgpu/canhazgpu.sock"
CONFIG = "/etc/canhazgpu/config.toml"
STATE_DIR = "/var/lib/canhazgpu"
LOG = "see its log (`journalctl -u canhazgpu`)"

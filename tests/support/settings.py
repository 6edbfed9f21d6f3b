"""Settings that go with others only."""

from canhazgpu.events.redis_client.endpoint import FILES

SECTIONS = ("redis", "fleet")
REDIS_FILES = tuple(f"{section}.{name}" for section in SECTIONS for name in FILES)
BESIDE = {  # What a key does not go without.
    "notify.email.username": 'password_file = "/password"\n',
    "limits.fleet.max_gpus_per_user": '[fleet]\nurl = "redis://fleet.example.com"\n',
    **dict.fromkeys(REDIS_FILES, 'url = "rediss+sentinel://h/gpus"\n'),
}
for section in SECTIONS:
    BESIDE[f"{section}.cert_file"] += 'key_file = "/key"\n'
    BESIDE[f"{section}.key_file"] += 'cert_file = "/cert"\n'
LISTS = {
    "notices.quiet.workdays": ["mon", "tue"],
    "notices.quiet.holidays": ["2026-12-25", "2027-01-01"],
    "notify.exec.command": ["/usr/bin/tell", "--all"],
    "notify.email.address_command": ["/usr/bin/ask", "mail"],
    "slurm.devices": ["/dev/nvidia1", "/dev/nvidia0"],
}

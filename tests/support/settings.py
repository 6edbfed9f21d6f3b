"""Settings that go with others only."""

from canhazgpu.events.redis_client.endpoint import FILES

REDIS_FILES = tuple(f"redis.{name}" for name in FILES)
BESIDE = {  # What a key does not go without.
    "notify.email.username": 'password_file = "/password"\n',
    **dict.fromkeys(REDIS_FILES, 'url = "rediss+sentinel://h/gpus"\n'),
}
BESIDE["redis.cert_file"] += 'key_file = "/key"\n'
BESIDE["redis.key_file"] += 'cert_file = "/cert"\n'

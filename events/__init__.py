"""The types shared by all parts of canhazgpu: events, their envelope, and the Redis keys that store them."""

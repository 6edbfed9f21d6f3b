"""The messages are those of the kubelet's public API, byte by byte."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from canhazgpu.cli import kubernetes
from canhazgpu.cli.kubernetes.messages import message

pytestmark = pytest.mark.kubernetes
PROTO = Path(*kubernetes.__path__) / "proto"


def test_the_descriptors_are_those_of_the_proto_files(tmp_path: Path) -> None:
    """`make kubelet-api` would change nothing."""
    words = ["-I", str(PROTO), "--descriptor_set_out", str(tmp_path / "set")]
    names = [path.name for path in sorted(PROTO.glob("*.proto"))]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *words, *names], check=True)
    made, shipped = (
        FileDescriptorSet.FromString(path.read_bytes())
        for path in (tmp_path / "set", PROTO / "kubelet.binpb")
    )
    assert made == shipped


@pytest.mark.parametrize(
    ("name", "fields", "wire"),
    [
        ("v1beta1.Device", {"ID": "a", "health": "b"}, b"\x0a\x01a\x12\x01b"),
        ("v1beta1.ListAndWatchResponse", {"devices": [{"ID": "a"}]}, b"\x0a\x03\x0a\x01a"),
        (
            "v1beta1.RegisterRequest",
            {"version": "a", "endpoint": "b", "resource_name": "c", "options": {"pre_start_required": True}},
            b"\x0a\x01a\x12\x01b\x1a\x01c\x22\x02\x08\x01",
        ),
        (
            "v1beta1.AllocateRequest",
            {"container_requests": [{"devices_ids": ["a", "b"]}]},
            b"\x0a\x06\x0a\x01a\x0a\x01b",
        ),
        (
            "v1beta1.AllocateResponse",
            {"container_responses": [{"envs": {"a": "b"}, "cdi_devices": [{"name": "c"}]}]},
            b"\x0a\x0d\x0a\x06\x0a\x01a\x12\x01b\x2a\x03\x0a\x01c",
        ),
        (
            "v1.ListPodResourcesResponse",
            {
                "pod_resources": [
                    {
                        "name": "a",
                        "namespace": "b",
                        "containers": [
                            {"name": "c", "devices": [{"resource_name": "d", "device_ids": ["e"]}]}
                        ],
                    }
                ]
            },
            b"\x0a\x13\x0a\x01a\x12\x01b\x1a\x0b\x0a\x01c\x12\x06\x0a\x01d\x12\x01e",
        ),
    ],
)
def test_messages_have_the_numbers_of_the_kubelet(name: str, fields: dict[str, object], wire: bytes) -> None:
    """The numbers are those in api.proto of k8s.io/kubelet."""
    assert message(name)(**fields).SerializeToString() == wire

"""The kubelet's APIs as gRPC sees them: messages and methods, from the descriptors in proto/kubelet.binpb.

Code that protoc generates works only with the releases of protobuf that it was generated for. Descriptors
work with all of them.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

DEVICE_PLUGIN, REGISTRATION, POD_RESOURCES = (
    "v1beta1.DevicePlugin",
    "v1beta1.Registration",
    "v1.PodResourcesLister",
)
VERSION = "v1beta1"
HEALTHY, UNHEALTHY = "Healthy", "Unhealthy"


@cache
def _descriptors() -> Any:
    data = files(__package__).joinpath("proto", "kubelet.binpb").read_bytes()
    return descriptor_pb2.FileDescriptorSet.FromString(data)


@cache
def _pool() -> Any:
    pool = descriptor_pool.DescriptorPool()
    for file in _descriptors().file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


@cache
def message(name: str) -> Any:
    """Return the class of a message, such as v1beta1.Device."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(name))


def call(channel: grpc.Channel, service: str, method: str) -> Any:
    """Return a function that calls a method; it takes the request and a timeout, and raises grpc.RpcError."""
    found = _methods(service)[method]
    kind = channel.unary_stream if found.server_streaming else channel.unary_unary
    return kind(
        f"/{service}/{method}",
        request_serializer=_class(found.input_type).SerializeToString,
        response_deserializer=_class(found.output_type).FromString,
    )


def handlers(service: str, servicer: object) -> grpc.GenericRpcHandler:
    """Return what serves a service by the methods of `servicer`: `ListAndWatch` by `list_and_watch`."""
    found = {}
    for name, method in _methods(service).items():
        streams = method.server_streaming
        kind = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
        found[name] = kind(
            getattr(servicer, re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()),
            request_deserializer=_class(method.input_type).FromString,
            response_serializer=_class(method.output_type).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(service, found)


def _methods(service: str) -> dict[str, Any]:
    found = (
        one for file in _descriptors().file for one in file.service if f"{file.package}.{one.name}" == service
    )
    return {method.name: method for method in next(found).method}


def _class(type_name: str) -> Any:
    return message(type_name.removeprefix("."))

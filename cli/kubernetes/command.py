"""`canhazgpu kubernetes`: the command that runs the device plugin until it is stopped."""

from canhazgpu.cli.exit_codes import REFUSED, USAGE
from canhazgpu.cli.output import examples, fail

EPILOG = examples("canhazgpu kubernetes", "canhazgpu install kubernetes")
PACKAGES = ("grpc", "google", "google.protobuf")


def kubernetes() -> None:
    """Offer this node's GPUs to pods as canhazgpu.io/gpu (root only).

    This is a device plugin for the kubelet. GPUs that are reserved or used outside the cluster are not given
    to pods, and the GPUs of pods are reserved. It runs until it is stopped; pods keep their GPUs.
    """
    from canhazgpu.config.load import ConfigError, load  # noqa: PLC0415 - heavy, as are the next ones

    try:
        from canhazgpu.cli.kubernetes.plugin import run  # noqa: PLC0415

        settings = load().settings.kubernetes
    except ConfigError as error:
        fail(str(error), USAGE)
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        fail("this needs grpcio and protobuf: pip install 'canhazgpu[kubernetes]'", REFUSED)
    run(settings)

"""Creates the enabled channels. The audit log is not one of them, because it reads the events itself."""

from canhazgpu.config.settings import Settings
from canhazgpu.notifiers.channel import Channel
from canhazgpu.notifiers.channels.wall import Wall


def channels(settings: Settings) -> list[Channel]:
    """Create all enabled channels. The modules of a channel are imported only if it is enabled.

    Raises PluginFailed if a plugin cannot be used.
    """
    notify = settings.notify
    made: list[Channel] = []
    if notify.wall.enabled:
        made.append(Wall(settings))
    if notify.email.enabled:
        from canhazgpu.notifiers.channels.mail import Mail  # noqa: PLC0415 - aiosmtplib, only if mail is enabled

        made.append(Mail(settings))
    if notify.webhook:
        from canhazgpu.notifiers.channels.webhook import Webhook  # noqa: PLC0415 - httpx, only if webhooks are enabled

        made += (Webhook(name, target) for name, target in notify.webhook.items())
    if notify.exec.command:
        from canhazgpu.notifiers.channels.exec import Exec  # noqa: PLC0415 - as these two

        made.append(Exec(settings))
    if notify.plugins:
        from canhazgpu.notifiers.plugins import plugins  # noqa: PLC0415 - it reads every package's metadata

        made += plugins(settings)
    return made

"""`canhazgpu config`: check a settings file, and show the settings in force."""

import sys
from typing import Annotated, Any

import typer

from canhazgpu.cli.arguments import AsJson, non_empty
from canhazgpu.cli.completion import candidates
from canhazgpu.cli.exit_codes import DONE, USAGE
from canhazgpu.cli.output import examples, fail, print_json

app = typer.Typer(
    help="Check and show the settings.",
    no_args_is_help=False,
    epilog=examples("canhazgpu config show", "canhazgpu config check /etc/canhazgpu/config.toml"),
)


def _load(path: str | None) -> Any:
    from canhazgpu.config.load import ConfigError, load  # noqa: PLC0415 - heavy

    try:
        return load(path)
    except ConfigError as error:
        fail(str(error), USAGE)


def _provider_trouble(settings: Any) -> str | None:
    """Return why the provider cannot be used, if it is from another package."""
    import anyio  # noqa: PLC0415 - heavy, as are the next ones

    from canhazgpu.config.providers import BUILT_IN  # noqa: PLC0415
    from canhazgpu.service.providers.provider import ProviderFailed  # noqa: PLC0415
    from canhazgpu.service.providers.registry import open_provider  # noqa: PLC0415

    if settings.gpus.provider not in BUILT_IN:
        try:
            anyio.run(open_provider(settings).aclose)
        except ProviderFailed as failed:
            return str(failed)
    return None


@app.command(
    "check", epilog=examples("canhazgpu config check", "canhazgpu config check /etc/canhazgpu/config.toml")
)
def check(
    file: Annotated[
        str | None,
        typer.Argument(
            help="The file (default: the one in use).",
            metavar="[FILE]",
            autocompletion=candidates.files,
            callback=non_empty,
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Check a settings file. If it is invalid, name the wrong key and the expected value."""
    from canhazgpu.config.load import ConfigError, load  # noqa: PLC0415 - heavy

    try:
        loaded = load(file)
        trouble = _provider_trouble(loaded.settings)
    except ConfigError as error:
        trouble = str(error)
    named = [] if trouble else sorted({origin for origin in loaded.origins.values() if origin != "default"})
    if as_json:
        print_json({"valid": trouble is None, "error": trouble, "sources": named})
        raise typer.Exit(USAGE if trouble else DONE)
    if trouble:
        fail(trouble, USAGE)
    sys.stdout.write(f"Good: {', '.join(named) if named else 'all settings have their defaults'}\n")


@app.command("show", epilog=examples("canhazgpu config show > settings.toml", "canhazgpu config show --json"))
def show(*, as_json: AsJson = False) -> None:
    """Show the effective value of every setting and where it was set, as a settings file.

    The output can be used as a settings file. Secrets are masked and commented out.
    """
    from canhazgpu.config.effective import effective  # noqa: PLC0415 - heavy
    from canhazgpu.config.load import options, shown  # noqa: PLC0415 - heavy

    loaded = _load(None)
    if as_json:
        print_json(
            {
                option.key: {"value": shown(option, loaded.settings), "from": loaded.origins[option.key]}
                for option in options()
            }
        )
    else:
        sys.stdout.write(effective(loaded))


@app.command("example", epilog=examples("canhazgpu config example > config.toml"))
def example() -> None:
    """Print an example settings file with every key, its meaning and its default."""
    from canhazgpu.config.example import example as text  # noqa: PLC0415 - heavy

    sys.stdout.write(text())

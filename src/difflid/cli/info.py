"""``difflid info``: what is installed and at hand."""

import click

__all__ = ["info"]


@click.command()
def info() -> None:
    """Show versions, devices and the models at hand."""
    import platform
    from importlib.metadata import version

    from difflid.cli.devices import devices
    from difflid.zoo import DEFAULT, embedded_models

    for package in ("difflid", "torch", "diffusers"):
        _row(package, version(package))
    _row("python", platform.python_version())
    for name, description in devices().items():
        _row("device", f"{name} ({description})")
    for name in embedded_models():
        _row("model", f"{name} (the default)" if name == DEFAULT else name)
    if not embedded_models():
        _row("model", "none; give a model folder with --model")


def _row(name: str, value: str) -> None:
    click.echo(f"{name:<10}{value}")

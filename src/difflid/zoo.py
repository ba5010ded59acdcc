"""Where weights come from: the embedded default, a folder, or the Hugging Face hub."""

from pathlib import Path

from difflid.errors import ModelError

__all__ = ["EMBEDDED", "embedded_models", "find_model"]

EMBEDDED = "difflid-v0"  # the default
_WEIGHTS = Path(__file__).parent / "weights"


def embedded_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.name for path in _WEIGHTS.iterdir() if (path / "config.json").is_file())


def find_model(name_or_folder: str | Path | None = None) -> Path:
    """Return the folder of a model: None for the default, the name of an embedded model, or a folder.

    Raises:
        ModelError: there is no such model.
    """
    name = str(name_or_folder or EMBEDDED)
    if name in embedded_models():
        return _WEIGHTS / name
    if Path(name).is_dir():
        return Path(name)
    raise ModelError(f"no model {name!r}: neither a folder nor one of {', '.join(embedded_models())}")

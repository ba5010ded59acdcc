"""Where weights come from and go to: the embedded default, a folder, or the Hugging Face hub."""

from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from difflid.errors import ModelError

__all__ = ["DEFAULT", "embedded_models", "find_model", "find_prior", "upload_model"]

DEFAULT = "difflid-v10"
_WEIGHTS = Path(__file__).resolve().parent / "weights"
_PRIOR = "prior"  # folder in a model folder; the embedded models share one, beside them
_FILES = ["README.md", "config.json", "model.safetensors", "prior/config.json", "prior/model.safetensors"]


def embedded_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.name for path in _WEIGHTS.iterdir() if (path / "config.json").is_file() and path.name != _PRIOR)


def find_model(name_or_folder: str | Path | None = None, *, revision: str | None = None) -> Path:
    """Return the folder of a model.

    Args:
        name_or_folder: None for the default, the name of an embedded model, a folder, or ``OWNER/NAME`` on the hub,
            which is downloaded once.
        revision: branch, tag or commit on the hub.

    Raises:
        ModelError: there is no such model.
    """
    name = str(name_or_folder or DEFAULT)
    if name in embedded_models():
        return _WEIGHTS / name
    if Path(name).is_dir():
        return Path(name)
    if isinstance(name_or_folder, str) and len(name.split("/")) == 2 and all(name.split("/")):
        return _download(name, revision)
    raise ModelError(
        f"no model {name!r}: neither a folder, nor one of {', '.join(embedded_models())}, nor OWNER/NAME on the hub"
    )


def find_prior(model: Path) -> Path:
    """Return the prior folder of a model folder."""
    return (_WEIGHTS if model.resolve().parent == _WEIGHTS else model) / _PRIOR


def _download(repository: str, revision: str | None) -> Path:
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=_FILES))
    except LocalEntryNotFoundError as error:  # no connection, which is not the same as no such model
        raise ModelError(f"{repository} is not a folder, and the hub cannot be reached: {error}") from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelError(f"{repository} is neither a folder nor a model on the hub: {error}") from error


def upload_model(folder: Path, repository: str, *, private: bool) -> str:
    """Put a model folder on the hub as ``OWNER/NAME``; return the address of the commit.

    Raises:
        ModelError: the hub cannot be reached or refuses.
    """
    hub = HfApi()
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        return str(hub.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=_FILES))
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        raise ModelError(f"cannot upload the model to {repository}: {error}") from error

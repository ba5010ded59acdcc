"""One picture in one call."""

from pathlib import Path
from threading import Lock
from typing import Any

from difflid.dehazer import Dehazer

__all__ = ["dehaze"]

_loading = Lock()
_loaded: dict[str | Path | None, Dehazer] = {}  # the model of the last call only


def dehaze(image: Any, *, model: str | Path | None = None, strength: float = 1.0, tile: int | None = None) -> Any:
    """Dehaze a picture of any kind, on the CPU; the result is of the same kind, type and size.

    The model stays loaded for the next call. For another device, for what was seen in the picture, or for one picture
    at several strengths, use a :class:`difflid.Dehazer`.

    Args:
        image: PIL image, array ``(H, W[, 1 | 3 | 4])``, tensor ``([B,] 3, H, W)``, path, or encoded bytes. A path gives
            a PIL image.
        model: a model at hand or a model folder; None: the embedded default.
        strength: see :meth:`difflid.Dehazer.restore`.
        tile: see :meth:`difflid.Dehazer.restore`.

    Raises:
        ImageError: the picture cannot be read.
        ModelError: there is no such model.

    >>> import numpy as np
    >>> dehaze(np.full((48, 64, 3), 128, np.uint8), strength=0.7).shape
    (48, 64, 3)
    """
    return _load(model)(image, strength=strength, tile=tile)


def _load(model: str | Path | None) -> Dehazer:
    with _loading:
        if model not in _loaded:
            _loaded.clear()
            _loaded[model] = Dehazer.from_pretrained(model)
        return _loaded[model]

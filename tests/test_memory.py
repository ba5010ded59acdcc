import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

LIMIT = 3  # GB of resident memory

WORK = """
import resource, sys
from pathlib import Path
from difflid import Dehazer
from difflid.inference import Settings, dehaze_file
dehaze_file(Dehazer.from_pretrained(), Path(sys.argv[1]), Path(sys.argv[2]), Settings(detail=sys.argv[3]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "detail"), [(".jpg", "exact"), (".jpg", "fast"), (".png", "fast"), (".tif", "fast")]
)
def test_100_megapixels_stay_within_the_memory(
    suffix: str, detail: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    Image.fromarray(astronaut()).resize((11_600, 8_640)).save(source)
    command = [sys.executable, "-c", WORK, source, target, detail]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < LIMIT
    with Image.open(target) as result:
        assert result.size == (11_600, 8_640)
        assert np.asarray(result.resize((16, 12))).std() > 10

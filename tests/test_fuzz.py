import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "fuzz_decode.py"


def test_damaged_pictures_are_read_or_refused(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--count", "300", "--seed", "1", "--keep", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "300 damaged files" in done.stdout

"""The promise on the README's first screen: one command, a real answer."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_quickstart_prints_a_sensible_answer() -> None:
    run = subprocess.run([ROOT / "scripts" / "quickstart"], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    answer = run.stdout.split("\n\n")[0]
    assert "Hearth" in answer.split("\n", 1)[1], answer

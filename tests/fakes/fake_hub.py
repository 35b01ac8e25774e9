"""A model hub on a loopback port: one repository, its commits, and files that can break off or change under way."""

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

COMMIT = "c0ffee" + "0" * 34


class FakeHub:
    """Speaks what `huggingface_hub` asks for the facts of a model, and `resolve` for its files."""

    def __init__(self, files: dict[str, bytes], repository: str = "poets/small") -> None:
        self.url = ""
        self.files = files
        self.repository = repository
        self.breaks_after: dict[str, int] = {}
        """By file: bytes after which the connection of the next answer ends."""
        self.may_break = threading.Event()
        """What a client has not read when its connection ends is lost to it: a test can wait for the reading."""
        self.may_break.set()
        self.is_corrupt = False
        self.asked: list[tuple[str, str]] = []
        """Every file that was asked for, with its Range header."""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/api/models/{organisation}/{name}/revision/{revision}", self._describe)
        app.router.add_get("/{organisation}/{name}/resolve/{commit}/{filename}", self._send)
        return app

    async def _describe(self, request: web.Request) -> web.Response:
        repository = "{organisation}/{name}".format(**request.match_info)
        if repository != self.repository or request.match_info["revision"] not in ("main", COMMIT):
            code = "RepoNotFound" if repository != self.repository else "RevisionNotFound"
            return web.json_response({"error": code}, status=404, headers={"X-Error-Code": code})
        siblings = [
            {
                "rfilename": name,
                "size": len(content),
                "blobId": "b" * 40,
                **({"lfs": _lfs(content)} if name.endswith(".safetensors") else {}),
            }
            for name, content in self.files.items()
        ]
        return web.json_response({"id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings})

    async def _send(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["filename"]
        content = self.files[name]
        if self.is_corrupt:
            content = bytes(len(content))
        range_header = request.headers.get("Range", "")
        self.asked.append((name, range_header))
        start = int(range_header.removeprefix("bytes=").rstrip("-") or 0)
        response = web.StreamResponse(status=206 if start else 200)
        response.content_length = len(content) - start
        await response.prepare(request)
        end = self.breaks_after.pop(name, len(content))
        await response.write(content[start:end])
        if end < len(content):
            assert request.transport is not None
            await asyncio.to_thread(self.may_break.wait)
            request.transport.close()
        return response


@contextmanager
def hub_in_thread(hub: FakeHub) -> Iterator[FakeHub]:
    """On a loop of its own, because `huggingface_hub` blocks."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(hub.app())

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        hub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _lfs(content: bytes) -> dict[str, object]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}

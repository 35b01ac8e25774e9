"""A multipart/form-data body with a sound file in it, in any order of parts: the file goes where it is kept, as it
arrives, the fields into a `Form`.

Holds no field of any particular route. What stands in several parts, `name[]` or `name[member]`, is joined with commas,
which is how other clients write a list.
"""

from collections.abc import Collection

from aiohttp import BodyPartReader, web

from appliance.api.control.multipart import PLAIN_ENCODINGS, in_time, unreadable
from appliance.api.data.forms import PARTS_MAX, Form
from appliance.errors import Code, HearthError
from appliance.services.recordings import Recording

FILE_FIELD = "file"
READ_BYTES = 256 * 1024
NAME_LENGTH_MAX = 64
FIELD_BYTES_MAX = 800 * 1024
"""What is said in four hours, in any script."""
FIELDS_BYTES_MAX = 1024 * 1024
"""Of all fields together."""


async def read_sound_form(
    request: web.Request, recording: Recording, known: Collection[str], audio_bytes_max: int, idle_timeout_s: float
) -> Form:
    """Raises `invalid`, `too_large` or `timeout`; the file is in `recording` afterwards.

    `known`: the fields of the route. Of others the name is kept, and refusals do not name them.
    """
    if request.content_length is not None and request.content_length > audio_bytes_max + FIELDS_BYTES_MAX:
        message = f"{FILE_FIELD}: a sound file has at most {audio_bytes_max} bytes"
        raise HearthError(Code.TOO_LARGE, message, FILE_FIELD)
    if not request.content_type.startswith("multipart/"):
        raise HearthError(Code.INVALID, f"{FILE_FIELD}: send it as multipart/form-data", FILE_FIELD)
    reading = _Reading(recording, known, idle_timeout_s)
    reader = await in_time(request.multipart(), FILE_FIELD, idle_timeout_s)
    for _ in range(PARTS_MAX):
        part = await in_time(reader.next(), FILE_FIELD, idle_timeout_s)
        if part is None:
            return reading.result()
        if not isinstance(part, BodyPartReader):
            raise HearthError(Code.INVALID, "the multipart body holds another one; send one level", FILE_FIELD)
        await reading.take(part)
    raise HearthError(Code.INVALID, f"the multipart body has more than {PARTS_MAX} parts")


class _Reading:
    def __init__(self, recording: Recording, known: Collection[str], idle_timeout_s: float) -> None:
        self._recording = recording
        self._known = known
        self._idle_timeout_s = idle_timeout_s
        self._fields: dict[str, str] = {}
        self._num_field_bytes = 0
        self._has_file = False

    async def take(self, part: BodyPartReader) -> None:
        name, bracket, _ = (part.name or "").partition("[")
        if part.headers.get("Content-Transfer-Encoding", "").lower() not in PLAIN_ENCODINGS:
            raise self._refusal(name, "send it as it is, without a transfer encoding")
        if name == FILE_FIELD:
            await self._take_file(part)
            return
        text = await self._text(part, name)
        if name not in self._known:
            self._fields[name[:NAME_LENGTH_MAX]] = text[:1]
            return
        if name in self._fields and not bracket:
            raise self._refusal(name, "given more than once")
        self._fields[name] = f"{self._fields[name]},{text}" if name in self._fields else text

    def result(self) -> Form:
        if not self._has_file:
            raise self._refusal(FILE_FIELD, "this field is required")
        if not self._recording.num_bytes:
            raise self._refusal(FILE_FIELD, "it is empty")
        return Form(self._fields, {})

    async def _take_file(self, part: BodyPartReader) -> None:
        if self._has_file:
            raise self._refusal(FILE_FIELD, "given more than once")
        self._has_file = True
        while not part.at_eof():
            await self._recording.write(await in_time(part.read_chunk(READ_BYTES), FILE_FIELD, self._idle_timeout_s))
        if part.headers.get("Content-Length", str(self._recording.num_bytes)) != str(self._recording.num_bytes):
            raise unreadable(FILE_FIELD)

    async def _text(self, part: BodyPartReader, name: str) -> str:
        data = bytearray()
        while not part.at_eof():
            chunk = await in_time(part.read_chunk(), FILE_FIELD, self._idle_timeout_s)
            data += chunk
            self._num_field_bytes += len(chunk)
            if len(data) > FIELD_BYTES_MAX or self._num_field_bytes > FIELDS_BYTES_MAX:
                raise self._refusal(name, f"larger than {FIELD_BYTES_MAX} bytes", Code.TOO_LARGE)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise self._refusal(name, f"not UTF-8 (byte {error.start})") from error

    def _refusal(self, name: str, message: str, code: Code = Code.INVALID) -> HearthError:
        if name in self._known or name == FILE_FIELD:
            return HearthError(code, f"{name}: {message}", name)
        return HearthError(code, f"a field that is not known here: {message}")

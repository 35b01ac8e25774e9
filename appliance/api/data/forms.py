"""A multipart/form-data body of files and fields, in any order, within limits: as bytes, and as a Struct.

Parts are read as they arrive and never before their limit is known. What the Struct does not have is ignored and told
by name; a field that is empty counts as left out, for that is how clients write `None`.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple, TypeVar

import msgspec
from aiohttp import BodyPartReader, web

from appliance.api.codec import list_names, name_the_field
from appliance.api.control.multipart import PLAIN_ENCODINGS, in_time, unreadable
from appliance.errors import Code, HearthError

FIELD_BYTES_MAX = 128 * 1024
PARTS_MAX = 64
_FIELDS_BYTES_MAX = PARTS_MAX * FIELD_BYTES_MAX
_NAME_LENGTH_MAX = 100
_WHOLE = "the request body"

StructT = TypeVar("StructT", bound=msgspec.Struct)


class Form(NamedTuple):
    fields: Mapping[str, str]
    files: Mapping[str, bytes]


async def read_form(request: web.Request, files: Collection[str], file_bytes_max: int, idle_timeout_s: float) -> Form:
    """`files`: parts of those names, also written `name[]`, are files."""
    if request.content_length is not None and request.content_length > len(files) * file_bytes_max + _FIELDS_BYTES_MAX:
        raise HearthError(Code.TOO_LARGE, "the request body is larger than all that it may hold")
    if not request.content_type.startswith("multipart/"):
        raise HearthError(Code.INVALID, "send the request body as multipart/form-data")
    fields, contents = dict[str, str](), dict[str, bytes]()
    reader = await in_time(request.multipart(), _WHOLE, idle_timeout_s)
    for _ in range(PARTS_MAX):
        part = await in_time(reader.next(), _WHOLE, idle_timeout_s)
        if part is None:
            return Form(fields, contents)
        if not isinstance(part, BodyPartReader):
            raise HearthError(Code.INVALID, "the multipart body holds another one; send one level")
        name = (part.name or "").removesuffix("[]")[:_NAME_LENGTH_MAX]
        if name in fields or name in contents:
            raise HearthError(Code.INVALID, f"{name}: given more than once", name)
        if name in files:
            contents[name] = await _read(part, name, file_bytes_max, idle_timeout_s)
        else:
            fields[name] = _text(await _read(part, name, FIELD_BYTES_MAX, idle_timeout_s), name)
    raise HearthError(Code.INVALID, f"the multipart body has more than {PARTS_MAX} parts")


def required_file(form: Form, name: str) -> bytes:
    data = form.files.get(name)
    if not data:
        raise HearthError(Code.INVALID, f"{name}: this file is required", name)
    return data


def decode_fields(form: Form, kind: type[StructT]) -> StructT:
    """Numbers and truths are read from text; raises `invalid` naming the field."""
    known = {name: value for name, value in form.fields.items() if value and name in kind.__struct_encode_fields__}
    try:
        value: StructT = msgspec.convert(known, kind, strict=False)
    except msgspec.ValidationError as error:
        raise name_the_field(str(error)) from error
    return value


def ignored_form_fields(form: Form, kind: type[msgspec.Struct]) -> str:
    """Like `ignored_fields` of a body."""
    known = kind.__struct_encode_fields__
    return list_names([name for name, value in form.fields.items() if value and name not in known])


async def _read(part: BodyPartReader, name: str, bytes_max: int, idle_timeout_s: float) -> bytes:
    if part.headers.get("Content-Transfer-Encoding", "").lower() not in PLAIN_ENCODINGS:
        raise HearthError(Code.INVALID, f"{name}: send it as it is, without a transfer encoding", name)
    data = bytearray()
    while not part.at_eof():
        data += await in_time(part.read_chunk(), name, idle_timeout_s)
        if len(data) > bytes_max:
            raise HearthError(Code.TOO_LARGE, f"{name}: larger than {bytes_max} bytes", name)
    if part.headers.get("Content-Length", str(len(data))) != str(len(data)):
        raise unreadable(name)
    return bytes(data)


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise HearthError(Code.INVALID, f"{name}: not UTF-8 (byte {error.start})", name) from error

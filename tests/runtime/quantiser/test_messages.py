import msgspec
import pytest

from runtime.quantiser.messages import Ended, FromQuantiser, Message, Progress, Quantise, encode_line

ANSWERS: list[Message] = [Progress(num_bytes=1, total_bytes=2), Ended(), Ended(refusal="a\nb")]


@pytest.mark.parametrize("message", ANSWERS)
def test_each_message_is_one_line(message: Message) -> None:
    line = encode_line(message)
    assert line.count(b"\n") == 1
    assert msgspec.json.decode(line, type=FromQuantiser) == message


def test_what_is_asked_for_is_read_as_it_was_written() -> None:
    asked = Quantise(source_dir="/a", file_sha256={"config.json": "1"}, target_dir="/b")
    assert msgspec.json.decode(encode_line(asked), type=Quantise) == asked
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"source_dir":"/a","file_sha256":{},"target_dir":"/b","more":1}', type=Quantise)

import hashlib
from pathlib import Path

from appliance.services.dataset_split import read_preview, write_chunks


def test_chunks_hold_the_examples_in_order_without_what_lies_between(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b'\xef\xbb\xbf{"n":1}\r\n\n {"n":2} \n')
    second.write_bytes(b'{"n":3}')
    folders = [tmp_path / "x", tmp_path / "y"]
    chunks = write_chunks([first, second], 2, folders, ["x.jsonl", "y.jsonl"], 100)
    assert [chunk.folder for chunk in chunks] == folders
    contents = [(chunk.folder / chunk.file.filename).read_bytes() for chunk in chunks]
    assert contents == [b'{"n":1}\n{"n":2}\n', b'{"n":3}\n']
    for chunk, content in zip(chunks, contents, strict=True):
        assert chunk.file.size_bytes == len(content)
        assert chunk.file.sha256 == hashlib.sha256(content).hexdigest()


def test_a_preview_ends_with_the_example_that_exceeds_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"{}  \n" * 10)
    assert len(read_preview([file], 5, 1000, 100)) == 5
    assert len(read_preview([file], 5, 4, 100)) == 3
    assert len(read_preview([file], 5, 0, 100)) == 1

from pathlib import Path

from appliance.sdk.halves import Half


def test_a_half_is_found_again_with_the_version_it_is_of(tmp_path: Path) -> None:
    file = tmp_path / "model[1].safetensors"
    assert Half.find(file) is None
    half = Half.begin(file, 'W/"1a2b-3c"')
    assert half.headers == {}
    half.path.write_bytes(b"12345")
    found = Half.find(file)
    assert found == Half(half.path, half.version, 5)
    assert found.headers == {"Range": "bytes=5-", "If-Match": f'"{half.version}"'}
    assert Half.find(tmp_path / "other") is None


def test_a_version_is_no_path(tmp_path: Path) -> None:
    assert Half.begin(tmp_path / "a", '"../../x"').path == tmp_path / ".a.x.part"

from pathlib import Path
from typing import Any

from tests.appliance.cli.conftest import Hearth


def test_a_secret_is_known_by_its_key_name_and_never_shown(hearth: Hearth, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("hf-canary\n")
    created = hearth("create", "secret", "--name", "HF_TOKEN", "--from-file", str(file))
    assert created.exit_code == 0, created.err
    assert "accounts/hearth/secrets/hf-token" in created.out
    piped: Any = hearth("secret", "create", "--name", "WANDB", "--from-file", "-", "-o", "json", stdin="w-canary").json
    assert piped["keyName"] == "WANDB"
    assert "HF_TOKEN" in hearth("get", "secret", "HF_TOKEN").out
    assert hearth("update", "secret", "accounts/hearth/secrets/hf-token", "--value", "hf-canary-2").exit_code == 0
    listed = hearth("list", "secrets").out
    assert {"hf-token", "wandb"} <= {line.split()[0] for line in listed.splitlines()[1:]}
    shown = created.out + listed + hearth("get", "secret", "hf-token", "-o", "json").out
    assert "canary" not in shown
    for name in ("HF_TOKEN", "wandb"):
        assert hearth("delete", "secret", name).out == f"Deleted {name}\n"


def test_a_value_comes_from_one_place(hearth: Hearth) -> None:
    assert hearth("create", "secret", "--name", "X").exit_code == 2
    assert hearth("create", "secret", "--name", "X", "--value", "x", "--from-file", "-", stdin="x").exit_code == 2

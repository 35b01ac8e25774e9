from typing import Any

from tests.appliance.cli.conftest import Hearth


def test_options_are_kept_under_a_name_in_versions(hearth: Hearth, model_id: str) -> None:
    made = hearth("create", "deployment-shape", model_id, "--deployment-shape-id", "exact", "--precision", "FP32")
    assert made.exit_code == 0, made.err
    assert "accounts/hearth/deploymentShapes/exact" in made.out
    would_be: Any = hearth(
        "create", "deployment", model_id, "--deployment-shape", "exact", "--validate-only", "-o", "json"
    ).json
    assert would_be["deploymentShape"] == "accounts/hearth/deploymentShapes/exact/versions/v1"
    assert would_be["precision"] == "FP32"
    changed: Any = hearth("update", "deployment-shape", "exact", "--max-context-length", "64", "-o", "json").json
    assert (changed["maxContextLength"], changed["precision"]) == (64, "FP32")
    shared: Any = hearth("update", "deployment-shape-version", "exact/v1", "--public", "-o", "json").json
    assert shared["public"] is True
    versions = hearth("list", "deployment-shape-versions", "--shape", "exact").out.splitlines()[1:]
    assert sorted(line.split()[0] for line in versions) == ["exact/v1", "exact/v2"]
    assert hearth("delete", "deployment-shape", "exact").out == "Deleted exact\n"
    assert "exact" not in hearth("list", "deployment-shapes").out

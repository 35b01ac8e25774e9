from typing import Any

from tests.appliance.cli.conftest import Hearth


def test_the_presets_of_the_box_are_the_librarys(hearth: Hearth) -> None:
    lines = hearth("list", "deployment-shapes", "-a", "fireworks").out.splitlines()
    assert lines[0].split()[:2] == ["ID", "PRESET"]
    assert len(lines) > 3
    none = hearth("list", "deployment-shapes", "--filter", "displayName=none")
    assert (len(none.out.splitlines()), "-a fireworks" in none.err) == (1, True)


def test_shapes_that_fit_a_model_have_its_numbers(hearth: Hearth, model_id: str) -> None:
    model = f"accounts/hearth/models/{model_id}"
    fitting: Any = hearth("list", "deployment-shapes", "-a", "fireworks", "--target-model", model, "-o", "json").json
    assert all(int(shape["memoryBytes"]) > 0 for shape in fitting)
    matched: Any = hearth("list", "deployment-shape-versions", "--base-model", model, "-o", "json").json
    assert {version["snapshot"]["baseModel"] for version in matched} == {model}
    assert hearth("list", "deployment-shape-versions", "--base-model", model, "--filter", "a=1").exit_code == 2


def test_a_shape_and_its_version_are_shown_by_the_names_that_lists_give(hearth: Hearth) -> None:
    versions: Any = hearth("list", "deployment-shape-versions", "-a", "fireworks", "-o", "json").json
    name = versions[0]["name"]
    shown = hearth("get", "deployment-shape-version", name)
    assert shown.exit_code == 0, shown.err
    assert shown.out.splitlines()[0].split() == ["Name:", name]
    assert hearth("deployment-shape-version", "get", name, "-o", "json").json == versions[0]
    listed = hearth("list", "deployment-shape-versions", "-a", "fireworks").out.splitlines()[1].split()[0]
    assert hearth("get", "deployment-shape-version", listed, "-a", "fireworks").exit_code == 0
    shape = hearth("get", "deployment-shape", name.partition("/versions/")[0])
    assert (shape.exit_code, shape.out.splitlines()[0].split()[0]) == (0, "Name:")


def test_a_shape_that_there_is_not_leads_to_the_list(hearth: Hearth) -> None:
    refused = hearth("get", "deployment-shape", "nothing")
    assert "hearth list deployment-shapes shows what there is" in refused.err

from pathlib import Path

from appliance.cli.model_options import OPTIONS, read_model_fields


def test_what_is_not_given_is_not_sent() -> None:
    assert read_model_fields(dict.fromkeys(OPTIONS)) == {}
    assert read_model_fields({"display_name": "", "context_length": 0, "public": False}) == {
        "display_name": "",
        "context_length": 0,
        "public": False,
    }


def test_a_template_and_a_system_prompt_are_one_field(tmp_path: Path) -> None:
    file = tmp_path / "t.jinja"
    file.write_text("T")
    assert read_model_fields({"chat_template": file, "system_prompt": None}) == {
        "conversation_config": {"style": "jinja", "template": "T", "system": ""}
    }
    assert read_model_fields({"chat_template": None, "system_prompt": ""}) == {
        "conversation_config": {"style": "jinja", "template": "", "system": ""}
    }

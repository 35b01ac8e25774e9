import pytest

from appliance.names import ResourceName
from appliance.services.model_field import ModelField, parse_model_field


def model(account_id: str, model_id: str) -> ResourceName:
    return ResourceName(account_id, "models", model_id)


FAST = ResourceName("acme", "deployments", "fast")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("accounts/globex/models/poet", ModelField(models=[model("globex", "poet")])),
        ("globex/poet", ModelField(models=[model("globex", "poet")])),
        ("poet", ModelField(models=[model("acme", "poet"), model("library", "poet")])),
        (
            "nomic-ai/nomic-embed-text-v1.5",
            ModelField(models=[model("acme", "nomic-embed-text-v1p5"), model("library", "nomic-embed-text-v1p5")]),
        ),
        (
            "WhereIsAI/UAE-Large-V1",
            ModelField(models=[model("acme", "uae-large-v1"), model("library", "uae-large-v1")]),
        ),
        ("accounts/acme/deployments/fast", ModelField(deployment=FAST)),
        ("accounts/acme/deployedModels/x", ModelField(deployed_model=ResourceName("acme", "deployedModels", "x"))),
        (
            "accounts/library/models/poet#accounts/acme/deployments/fast",
            ModelField(models=[model("library", "poet")], deployment=FAST),
        ),
        ("accounts/library/models/poet#acme/fast", ModelField(models=[model("library", "poet")], deployment=FAST)),
        ("poet#acme/fast", ModelField(models=[model("acme", "poet"), model("library", "poet")], deployment=FAST)),
    ],
)
def test_every_documented_form_is_understood(text: str, field: ModelField) -> None:
    assert parse_model_field(text, "acme", "library") == field


@pytest.mark.parametrize(
    "text",
    ["a/b/c", "accounts/acme/datasets/x", "accounts/acme/models/x/y", "poet#", "poet#fast", "a/b/c#acme/fast"],
)
def test_what_is_no_name_is_none(text: str) -> None:
    assert parse_model_field(text, "acme", "library") is None

"""Which task a picture becomes, and what of it a model or this machine refuses."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from appliance.config import Config, FleetSettings, ImageSettings
from appliance.domain import Deployment, DeploymentState, Model, ModelState
from appliance.errors import Code, HearthError
from appliance.services.images import (
    RANDOM_SEED_MAX,
    SEED_MAX,
    FieldNames,
    PictureRequest,
    choose_seeds,
    draw_by,
    drawing_demand,
    drawing_info,
    in_clients_words,
)
from appliance.services.targets import Target
from models.info import AnyServedInfo
from runtime.tasks.images import Control, Draw
from tests.appliance.api.conftest import INFO
from tests.fakes.scripted_drawing import CONTROL_NET, FLUX_PAINTER, PAINTER

CONFIG = Config(
    data_dir=Path("/nowhere"),
    images=ImageSettings(pictures_max=3, picture_steps_max=20),
    fleet=FleetSettings(picture_pixels_max=1024 * 1024),
)
BY_SIZE = FieldNames(others={"width": "size", "height": "size", "steps": "num_inference_steps"})


def target_of(info: AnyServedInfo | None) -> Target:
    every: dict[str, Any] = {"account_id": "acme", "created_at": 0.0, "updated_at": 0.0}
    model = Model(id="painter", state=ModelState.READY, directory="painter", info=info, **every)
    deployment = Deployment(
        id="d", base_model=model.name, state=DeploymentState.READY, desired_replica_count=1, **every
    )
    return Target(deployment, model)


def request_of(**fields: Any) -> PictureRequest:
    return PictureRequest(**{"names": FieldNames(), "prompt": "a fox", "seeds": [7], **fields})


def draw(info: AnyServedInfo = PAINTER, **fields: Any) -> Draw:
    return draw_by(request_of(**fields), CONFIG)(target_of(info))


def refusal(info: AnyServedInfo = PAINTER, **fields: Any) -> HearthError:
    with pytest.raises(HearthError) as caught:
        draw(info, **fields)
    assert caught.value.code is Code.INVALID
    assert caught.value.message.startswith(f"{caught.value.param}: ")
    return caught.value


def test_all_that_is_asked_becomes_the_task() -> None:
    control = Control(name=CONTROL_NET, image=b"edges")
    asked: dict[str, Any] = {
        "prompt": "a fox",
        "negative_prompt": "blurry",
        "width": 512,
        "height": 768,
        "seeds": [3, 4],
        "num_steps": 20,
        "guidance_scale": 4.5,
        "scheduler": "euler",
        "image": b"image",
        "strength": 0.25,
        "mask": b"mask",
        "control": control,
        "checks_safety": True,
        "format": "jpeg",
        "reports_progress": True,
    }
    assert draw(**asked) == Draw(request_id="", **asked)


def test_what_is_not_said_is_left_to_the_model() -> None:
    assert draw() == Draw(request_id="", prompt="a fox", seeds=[7])


def test_a_model_of_another_kind_makes_no_pictures() -> None:
    assert refusal(INFO).param == "model"
    assert refusal(INFO, names=FieldNames(model="model_id")).param == "model_id"
    with pytest.raises(HearthError, match="does not make pictures"):
        drawing_info(target_of(None), "model")


def test_an_addon_belongs_to_the_model_that_was_named_beside_it() -> None:
    assert draw(addon_of="accounts/acme/models/painter").prompt == "a fox"
    names = FieldNames(model="lora_adapter_name")
    error = refusal(addon_of="accounts/acme/models/other", names=names)
    assert error.param == "lora_adapter_name"


@pytest.mark.parametrize(
    ("aspect", "info", "size"),
    [
        ((1, 1), PAINTER, (1024, 1024)),
        ((16, 9), PAINTER, (1368, 768)),
        ((16, 9), FLUX_PAINTER, (1360, 768)),
        ((9, 21), FLUX_PAINTER, (672, 1568)),
        ((3, 2), replace(FLUX_PAINTER, default_size=64), (80, 64)),
    ],
)
def test_an_aspect_ratio_keeps_about_as_many_pixels(
    aspect: tuple[int, int], info: AnyServedInfo, size: tuple[int, int]
) -> None:
    config = replace(CONFIG, fleet=FleetSettings())
    task = draw_by(request_of(aspect=aspect), config)(target_of(info))
    assert (task.width, task.height) == size


@pytest.mark.parametrize(
    ("info", "fields", "param"),
    [
        (PAINTER, {"width": 500}, "width"),
        (PAINTER, {"height": 1028}, "height"),
        (PAINTER, {"height": 1028, "names": BY_SIZE}, "size"),
        (FLUX_PAINTER, {"width": 1032}, "width"),
        (PAINTER, {"width": 1032}, "width"),
        (PAINTER, {"height": 1032}, "height"),
        (PAINTER, {"width": 2048, "height": 520, "names": BY_SIZE}, "size"),
        (PAINTER, {"num_steps": 21}, "steps"),
        (PAINTER, {"num_steps": 21, "names": BY_SIZE}, "num_inference_steps"),
        (PAINTER, {"control": Control(name="depth", image=b"")}, "control_net_name"),
        (FLUX_PAINTER, {"control": Control(name=CONTROL_NET, image=b"")}, "control_net_name"),
        (FLUX_PAINTER, {"negative_prompt": "blurry"}, "negative_prompt"),
        (FLUX_PAINTER, {"image": b"image"}, "model"),
        (FLUX_PAINTER, {"image": b"image", "mask": b"mask"}, "model"),
    ],
)
def test_what_cannot_be_made_is_refused_in_the_clients_words(
    info: AnyServedInfo, fields: dict[str, Any], param: str
) -> None:
    assert refusal(info, **fields).param == param


def test_the_refusal_of_a_control_net_names_those_there_are() -> None:
    assert "canny" in refusal(control=Control(name="depth", image=b"")).message


def test_each_picture_has_a_seed_of_its_own() -> None:
    def chosen(seed: int | None, num_images: int) -> list[int]:
        return choose_seeds(seed, num_images, FieldNames(others={"samples": "n"}), CONFIG.images)

    assert chosen(5, 3) == [5, 6, 7]
    assert chosen(SEED_MAX, 2) == [SEED_MAX, 0]
    first, second = (chosen(None, 2) for _ in range(2))
    assert first[1] == first[0] + 1
    assert 0 < first[0] <= RANDOM_SEED_MAX
    assert first != second
    with pytest.raises(HearthError) as caught:
        chosen(5, 4)
    assert caught.value.param == "n"


def test_a_workers_refusal_is_told_in_the_clients_words() -> None:
    error = HearthError(Code.INVALID, "width: must be: odd", "width", retry_after_s=2.0)
    told = in_clients_words(error, BY_SIZE)
    assert (told.code, told.message, told.param, told.retry_after_s) == (Code.INVALID, "size: must be: odd", "size", 2)
    assert in_clients_words(error, FieldNames()) is error
    nameless = HearthError(Code.OVERLOADED, "too many: wait")
    assert in_clients_words(nameless, BY_SIZE) is nameless


def test_the_demand_counts_pictures_and_both_prompts() -> None:
    demand = drawing_demand(request_of(prompt="é" * 4, negative_prompt="ab", seeds=[1, 2]))
    assert demand.num_images == 2
    assert (demand.prompt.likely, demand.prompt.at_most) == (3, 10)

"""The table for spreadsheets."""

import csv

import pytest

from appliance.api.control.billing_metrics import COLUMNS, bucket_of
from appliance.domain import Role
from tests.appliance.api.conftest import INFO, READY_MODEL, Api
from tests.appliance.api.control.test_usage import chat, window
from tests.fakes.fake_router import NUM_PROMPT_TOKENS, WORDS


async def test_a_line_for_each_day_user_and_model(api: Api) -> None:
    await chat(api)
    await chat(api)
    path = "/v1/accounts/hearth/billing:exportMetrics"
    async with api.session.get(path, params=window(), headers=api.bearer(Role.ADMIN)) as response:
        assert response.status == 200
        assert response.content_type == "text/csv"
        assert "billing_metrics.csv" in response.headers["Content-Disposition"]
        heading, line = csv.reader((await response.text()).splitlines())
    told = dict(zip(heading, line, strict=True))
    assert tuple(told) == COLUMNS
    assert told["start_time"].endswith(" UTC")
    assert told["base_model_name"] == READY_MODEL
    assert told["parameter_count"] == str(INFO.num_parameters)
    assert (told["prompt_tokens"], told["completion_tokens"]) == (str(2 * NUM_PROMPT_TOKENS), str(2 * len(WORDS)))
    assert told["accelerator_seconds"] == "0"
    assert (told["audio_input_seconds"], told["image_count"]) == ("0.0", "0")


@pytest.mark.parametrize(
    ("num_parameters", "bucket"),
    [(0, ""), (1_000, "0B-4B"), (8_000_000_000, "4B-16B"), (70_000_000_000, "16B-80B"), (10**12, "80B+")],
)
def test_models_are_sorted_by_size(num_parameters: int, bucket: str) -> None:
    assert bucket_of(num_parameters) == bucket

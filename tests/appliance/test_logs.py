import json
import logging
from collections.abc import Iterator

import pytest

from appliance.config import LogFormat, LogLevel, LogSettings
from appliance.logs import configure_logging
from tests.appliance.logging_put_back import logging_put_back

KEY = "fw_abcdefghijkl_" + "S" * 49


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    with logging_put_back():
        yield


def fail_with_a_key() -> None:
    try:
        raise ValueError(f"bad header: Bearer {KEY}")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("request by %s", KEY)


@pytest.mark.parametrize("log_format", LogFormat)
def test_keys_are_blanked_in_messages_and_tracebacks(capsys: pytest.CaptureFixture[str], log_format: LogFormat) -> None:
    configure_logging(LogSettings(log_format=log_format))
    fail_with_a_key()
    written = capsys.readouterr().err
    assert "request by fw_…" in written
    assert "Bearer fw_…" in written
    assert "SSSS" not in written


def test_json_logs_are_one_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(log_format=LogFormat.JSON))
    fail_with_a_key()
    logging.getLogger("appliance.test").info("two\nlines")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["level"], first["logger"]) == ("ERROR", "aiohttp.server")
    assert second["message"] == "two\nlines"


def test_the_level_is_a_setting_and_client_text_of_requests_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(log_level=LogLevel.WARNING))
    logging.getLogger("appliance.test").info("not this")
    logging.getLogger("appliance.test").warning("but this")
    logging.getLogger("aiohttp.access").error("GET /?prompt=secret")
    written = capsys.readouterr().err
    assert "but this" in written
    assert "not this" not in written
    assert "secret" not in written


def test_what_libraries_say_of_the_values_they_are_given_is_never_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(log_level=LogLevel.DEBUG))
    logging.getLogger("appliance.test").debug("our own")
    logging.getLogger("aiosqlite").debug("INSERT of a secret")
    written = capsys.readouterr().err
    assert "our own" in written
    assert "secret" not in written

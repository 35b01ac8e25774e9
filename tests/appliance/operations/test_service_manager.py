"""The words of sd_notify, on a real socket."""

import logging
import time
from pathlib import Path

import pytest

from appliance.config import ServiceEnvironment, service_environment
from appliance.operations.service_manager import ServiceManager
from tests.appliance.operations.notify_socket import notify_socket


@pytest.mark.parametrize("is_abstract", [False, True])
def test_each_word_is_one_message(tmp_path: Path, is_abstract: bool) -> None:
    with notify_socket(None if is_abstract else tmp_path) as listening:
        manager = ServiceManager(listening.environment())
        before_us = time.monotonic_ns() // 1000
        manager.ready("serving")
        manager.show("still serving")
        manager.reloading()
        manager.alive()
        manager.stopping("going")
        ready, shown, reloading, alive, stopping = listening.read()
    assert ready == {"READY": "1", "STATUS": "serving"}
    assert shown == {"STATUS": "still serving"}
    assert reloading["RELOADING"] == "1"
    assert before_us <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert alive == {"WATCHDOG": "1"}
    assert stopping == {"STOPPING": "1", "STATUS": "going"}


def test_without_a_service_manager_nothing_happens() -> None:
    manager = ServiceManager(ServiceEnvironment())
    manager.ready("serving")
    manager.alive()
    assert manager.watchdog_s is None


def test_one_that_cannot_be_reached_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ServiceManager(ServiceEnvironment(notify_socket=str(tmp_path / "gone"))).ready("serving")
    assert "cannot notify the service manager" in caplog.text


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ServiceEnvironment()),
        ({"NOTIFY_SOCKET": "/run/notify"}, ServiceEnvironment(notify_socket="/run/notify")),
        ({"WATCHDOG_USEC": "30000000"}, ServiceEnvironment(watchdog_s=30.0)),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, ServiceEnvironment()),
        ({"WATCHDOG_USEC": "0"}, ServiceEnvironment()),
        ({"WATCHDOG_USEC": "soon"}, ServiceEnvironment()),
    ],
)
def test_where_and_how_often_comes_from_the_environment(environ: dict[str, str], expected: ServiceEnvironment) -> None:
    assert service_environment(environ) == expected

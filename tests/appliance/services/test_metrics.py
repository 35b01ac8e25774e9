"""Labels take only names of the server's own, and each Metrics has a registry of its own."""

import asyncio

from appliance.services.metrics import Metrics
from runtime.message import Used
from runtime.protocol import Usage


def test_each_kind_of_token_is_counted() -> None:
    metrics = Metrics()
    metrics.count_tokens("d", Usage(num_prompt_tokens=5, num_cached_tokens=2, num_completion_tokens=3))
    metrics.count_tokens("d", Usage(num_prompt_tokens=5, num_cached_tokens=0, num_completion_tokens=1))
    text = metrics.render().decode()
    for kind, count in {"prompt": 10.0, "cached": 2.0, "completion": 4.0}.items():
        assert f'hearth_tokens_total{{deployment="d",kind="{kind}"}} {count}' in text


def test_sound_and_pictures_are_counted_beside_tokens() -> None:
    metrics = Metrics()
    for used in (Used(num_prompt_tokens=4), Used(audio_ms=1500), Used(audio_ms=500), Used(num_images=1), Used()):
        metrics.count_used("d", used)
    text = metrics.render().decode()
    assert 'hearth_tokens_total{deployment="d",kind="prompt"} 4.0' in text
    assert 'hearth_audio_seconds_total{deployment="d"} 2.0' in text
    assert 'hearth_images_total{deployment="d"} 1.0' in text


def test_registries_are_apart() -> None:
    first, second = Metrics(), Metrics()
    first.count_http("/x", 200, 0.1)
    assert b'route="/x"' in first.render()
    assert b'route="/x"' not in second.render()


def test_tasks_are_counted_only_where_a_loop_runs() -> None:
    metrics = Metrics()

    async def render() -> bytes:
        return metrics.render()

    assert b"hearth_event_loop_tasks 1.0" in asyncio.run(render())
    assert b"hearth_event_loop_tasks 0.0" in metrics.render()


def test_looks_at_the_fleet_are_told_as_of_the_moment_of_the_question() -> None:
    metrics = Metrics()
    looks: list[float] = []
    metrics.observe_looks(lambda: len(looks), lambda: looks[-1] if looks else 0.0)
    looks += [0.5, 0.25]
    text = metrics.render().decode()
    assert "hearth_supervisor_looks 2.0" in text
    assert "hearth_supervisor_look_seconds 0.25" in text

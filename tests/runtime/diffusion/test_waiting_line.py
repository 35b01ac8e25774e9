from runtime.diffusion.request import BatchKey, DrawRequest
from runtime.diffusion.waiting_line import PASSES_MAX, Waiting, WaitingLine

SQUARE, WIDE = BatchKey(64, 64, ""), BatchKey(128, 64, "")


def request(name: str, tenant: str = "a", width: int = 64, num_steps: int = 10) -> DrawRequest:
    return DrawRequest(
        request_id=name,
        tenant=tenant,
        prompt="",
        negative_prompt="",
        width=width,
        height=64,
        num_steps=num_steps,
        guidance_scale=1.0,
        seeds=[1],
    )


def line_of(*requests: DrawRequest) -> WaitingLine:
    line = WaitingLine()
    for each in requests:
        line.append(Waiting(each, 0))
    return line


def taken(line: WaitingLine, key: BatchKey | None = None) -> str | None:
    waiting = line.take(key)
    return None if waiting is None else waiting.request.request_id


def test_pictures_of_one_tenant_come_in_their_order() -> None:
    line = line_of(request("1"), request("2"))
    assert [taken(line), taken(line), taken(line)] == ["1", "2", None]
    assert len(line) == 0


def test_tenants_take_turns_by_what_was_computed_for_them() -> None:
    line = line_of(
        request("a1", "a", num_steps=20), request("a2", "a"), request("b1", "b"), request("b2", "b"), request("b3", "b")
    )
    assert [taken(line) for _ in range(5)] == ["a1", "b1", "b2", "a2", "b3"]


def test_having_had_nothing_waiting_saves_up_nothing() -> None:
    line = line_of(*(request(f"a{number}", "a") for number in range(4)))
    for _ in range(3):
        taken(line)
    line.append(Waiting(request("b1", "b"), 0))
    line.append(Waiting(request("b2", "b"), 0))
    assert [taken(line) for _ in range(3)] == ["b1", "a3", "b2"]


def test_those_of_the_running_shape_pass_others_so_often_and_no_more() -> None:
    line = line_of(request("wide", width=128), *(request(str(number)) for number in range(PASSES_MAX + 2)))
    joined = [taken(line, SQUARE) for _ in range(PASSES_MAX + 1)]
    assert joined == [*map(str, range(PASSES_MAX)), None]
    assert taken(line) == "wide"
    assert taken(line, SQUARE) == str(PASSES_MAX)


def test_nobody_joins_a_shape_that_no_one_waits_for() -> None:
    line = line_of(request("1"))
    assert taken(line, WIDE) is None
    assert taken(line, SQUARE) == "1"


def test_a_request_is_removed_with_all_its_pictures() -> None:
    gone, kept = request("gone"), request("kept")
    line = line_of(gone, kept, gone)
    line.remove(gone)
    line.remove(request("unknown", "nobody"))
    assert [taken(line), taken(line)] == ["kept", None]

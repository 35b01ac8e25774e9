import gc
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress

import pytest

from runtime.adapter_shelf import AdapterShelf, no_adapters
from runtime.engine import LoadRefused, Postponed, RequestRefused
from runtime.llm.adapters.adapter import LoraAdapter
from runtime.message import FailureCode
from runtime.protocol import LoadAdapter

TIMEOUT_S = 60
NUM_PLACES = 2


class Disk:
    """Addons without weights, read when the test lets it."""

    def __init__(self) -> None:
        self.may_read = threading.Event()
        self.may_read.set()
        self.num_read = 0

    def read(self, load: LoadAdapter) -> LoraAdapter:
        assert self.may_read.wait(TIMEOUT_S)
        self.num_read += 1
        if load.directory == "broken":
            raise LoadRefused("it is broken")
        if load.directory == "bug":
            raise ZeroDivisionError
        if load.directory == "large":
            raise MemoryError
        return LoraAdapter({}, load.file_sha256)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def shelf(disk: Disk) -> Iterator[AdapterShelf]:
    shelf = AdapterShelf(disk.read, NUM_PLACES)
    yield shelf
    shelf.close()


def load(shelf: AdapterShelf, name: str, *, content: str = "", directory: str = "") -> None:
    shelf.load(message(name, content=content, directory=directory)).result(TIMEOUT_S)


def message(name: str, *, content: str = "", directory: str = "") -> LoadAdapter:
    return LoadAdapter(adapter=name, directory=directory, file_sha256={"adapter_model.safetensors": content or name})


def refusal(done: "Future[None]") -> tuple[FailureCode, str]:
    refused = done.exception(TIMEOUT_S)
    assert isinstance(refused, LoadRefused)
    return refused.code, refused.message


def is_known(shelf: AdapterShelf, name: str) -> bool:
    with suppress(RequestRefused):
        return bool(shelf.find(name))
    return False


def test_one_that_nobody_loaded_is_not_found(shelf: AdapterShelf) -> None:
    with pytest.raises(RequestRefused) as refused:
        shelf.find("a")
    assert (refused.value.code, refused.value.param) == (FailureCode.NOT_FOUND, "model")


def test_an_adapter_is_found_by_its_name_until_it_is_unloaded(shelf: AdapterShelf) -> None:
    load(shelf, "a")
    load(shelf, "b")
    assert shelf.find("a").file_sha256 == message("a").file_sha256
    shelf.unload("a")
    shelf.unload("never heard of")
    assert not is_known(shelf, "a")
    assert is_known(shelf, "b")


def test_one_that_is_being_loaded_is_waited_for(shelf: AdapterShelf, disk: Disk) -> None:
    disk.may_read.clear()
    done = shelf.load(message("a"))
    with pytest.raises(Postponed) as postponed:
        shelf.find("a")
    assert not postponed.value.ready.done()
    disk.may_read.set()
    postponed.value.ready.result(TIMEOUT_S)
    assert done.done()
    assert is_known(shelf, "a")


def test_one_that_is_replaced_serves_those_that_have_it(shelf: AdapterShelf) -> None:
    load(shelf, "a", content="old")
    old = shelf.find("a")
    load(shelf, "a", content="new")
    assert old.digest != shelf.find("a").digest


def test_the_same_files_under_the_same_name_are_read_once(shelf: AdapterShelf, disk: Disk) -> None:
    load(shelf, "a")
    load(shelf, "a")
    assert disk.num_read == 1


def test_never_are_there_more_than_places(shelf: AdapterShelf, disk: Disk) -> None:
    load(shelf, "a")
    load(shelf, "b")
    assert refusal(shelf.load(message("c"))) == (
        FailureCode.OVERLOADED,
        "2 addons are loaded, and there is room for no more",
    )
    in_use = shelf.find("a")
    shelf.unload("a")
    code, text = refusal(shelf.load(message("c")))
    assert (code, "still use" in text) == (FailureCode.OVERLOADED, True)
    assert in_use.file_sha256
    del in_use
    gc.collect()
    load(shelf, "c")
    assert disk.num_read == 3


def test_a_worker_without_room_says_so() -> None:
    shelf = no_adapters()
    code, text = refusal(shelf.load(message("a")))
    assert (code, text) == (FailureCode.OVERLOADED, "this worker was started without memory for addons")
    assert not is_known(shelf, "a")
    shelf.close()


@pytest.mark.parametrize(
    ("directory", "code"),
    [
        ("broken", FailureCode.INVALID),
        ("bug", FailureCode.INTERNAL),
        ("large", FailureCode.OVERLOADED),
    ],
)
def test_one_that_cannot_be_read_fails_alone(shelf: AdapterShelf, directory: str, code: FailureCode) -> None:
    assert refusal(shelf.load(message("a", directory=directory)))[0] is code
    assert not is_known(shelf, "a")
    load(shelf, "a")
    assert is_known(shelf, "a")


def test_one_that_is_unloaded_before_it_is_there_never_comes(shelf: AdapterShelf, disk: Disk) -> None:
    disk.may_read.clear()
    unwanted = shelf.load(message("a"))
    shelf.unload("a")
    assert not is_known(shelf, "a")
    wanted = shelf.load(message("a", content="another"))
    disk.may_read.set()
    assert refusal(unwanted)[0] is FailureCode.NOT_FOUND
    wanted.result(TIMEOUT_S)
    assert shelf.find("a").file_sha256 == message("a", content="another").file_sha256


def test_hundreds_come_and_go(shelf: AdapterShelf, disk: Disk) -> None:
    for number in range(200):
        load(shelf, f"{number}")
        assert shelf.find(f"{number}")
        shelf.unload(f"{number}")
    assert disk.num_read == 200

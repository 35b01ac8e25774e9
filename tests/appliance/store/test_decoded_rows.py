import asyncio

from msgspec.structs import replace

from appliance.store import accounts
from appliance.store.database import Connection, Database
from appliance.store.decoded_rows import DECODED_AT_ONCE, DecodedRows
from tests.appliance.store.samples import ACCOUNT


class Counting:
    def __init__(self) -> None:
        self.num_decoded = 0

    def __call__(self, row: object) -> list[object]:
        self.num_decoded += 1
        return [row]


async def read(
    database: Database, decoded: DecodedRows[list[object]], values: list[tuple[int, str]]
) -> list[list[object]]:
    listed = ", ".join(f"({key}, '{text}')" for key, text in values)
    async with database.reader() as db:
        return await decoded.read(await db.execute_fetchall(f"SELECT column1, column2 FROM (VALUES {listed})"))


async def test_an_equal_row_is_decoded_once_and_a_changed_one_again(database: Database) -> None:
    counting = Counting()
    decoded = DecodedRows(counting, num_key_columns=1)
    first = await read(database, decoded, [(1, "a"), (2, "b")])
    second = await read(database, decoded, [(1, "a"), (2, "c")])
    assert counting.num_decoded == 3
    assert first[0] is second[0]
    assert first[1] is not second[1]


async def test_others_have_their_turn_while_many_are_decoded(database: Database) -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = Counting()
    other = asyncio.create_task(take_turns())

    def decode(row: object) -> int:
        counting(row)
        return turns

    found = await DecodedRows(decode, 1).read([(number,) for number in range(3 * DECODED_AT_ONCE)])  # type: ignore[misc]
    other.cancel()
    assert len(set(found)) >= 3


async def list_names(db: Connection, prefix: str) -> list[str]:
    rows = await db.execute_fetchall("SELECT display_name FROM accounts WHERE id LIKE ? || '%'", (prefix,))
    return [row["display_name"] for row in rows]


async def test_what_was_read_is_remembered_until_something_is_committed(database: Database) -> None:
    async with database.transaction() as tx:
        await accounts.insert(tx, ACCOUNT)
    first = await database.remembered(list_names, "ac")
    assert await database.remembered(list_names, "ac") is first
    assert await database.remembered(list_names, prefix="ac") == first
    async with database.transaction() as tx:
        await accounts.insert(tx, replace(ACCOUNT, id="acme-two", display_name="Two"))
    assert await database.remembered(list_names, "ac") == [*first, "Two"]
    assert await database.remembered(list_names, "none") == []

import pytest
import typer
from typer.testing import CliRunner, Result

from appliance.cli.commands import Command, Session
from appliance.cli.grammar import plant
from appliance.cli.groups import listed_nouns, root_group

VERBS = {"create": "Make one.", "list": "See all."}
NOUNS = {"thing": "Something.", "place": "Somewhere."}


def run(session: Session) -> None:
    """Say who asks. Nothing else."""
    typer.echo(f"{session.asked.account_id} {session.is_json}")


COMMANDS = [Command("create", "thing", run, ()), Command("list", "place", run, ()), Command("ponder", None, run, ())]


def hearth(*words: str) -> Result:
    tree = plant(COMMANDS, VERBS, NOUNS)
    app = typer.Typer(cls=root_group(tree, {"First": ("ponder",)}, listed_nouns(COMMANDS)), rich_markup_mode=None)
    app.callback()(lambda: None)
    return CliRunner().invoke(app, list(words), prog_name="hearth")


@pytest.mark.parametrize("words", ["create thing", "thing create", "ponder", "list place", "places list"])
def test_every_path_runs_its_command(words: str) -> None:
    assert hearth(*words.split()).stdout == "None False\n"


def test_shared_options_may_stand_after_each_word() -> None:
    for words in ("create -a acme -o json thing", "create thing -a acme -o json", "thing -a acme create -o json"):
        assert hearth(*words.split()).stdout == "acme True\n"


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("creat", "`hearth` knows no 'creat'. Did you mean create?"),
        ("create thnig", "`hearth create` knows no 'thnig'. Did you mean thing or things?"),
        ("create place", "`hearth create` knows no 'place'. It knows thing."),
        ("thing explode", "`hearth thing` knows no 'explode'. It knows create."),
        ("xyzzy", "`hearth` knows no 'xyzzy'. `hearth --help` shows what it knows."),
    ],
)
def test_a_word_that_is_none_is_answered_with_one_that_is(words: str, advice: str) -> None:
    refused = hearth(*words.split())
    assert refused.exit_code == 2
    assert advice in refused.stderr


def test_a_group_without_its_next_word_shows_what_that_may_be() -> None:
    refused = hearth("create")
    assert refused.exit_code == 2
    assert "thing  Say who asks\n" in refused.stderr


def test_the_help_is_laid_out_in_sections_and_leaves_out_the_other_spellings() -> None:
    text = hearth("--help").stdout
    assert "First:\n  ponder  Say who asks\n\nMore:\n  create  Make one\n" in text
    assert "things" not in text
    assert "completion" not in text

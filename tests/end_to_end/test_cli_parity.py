"""Every command of `firectl`, as its users type it: in both word orders, as JSON, and as a dry run."""

import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from typer.testing import CliRunner

from appliance.cli.grammar import Node, plant
from appliance.cli.main import COMMANDS, NOUNS, VERBS, build_app
from tests.end_to_end.daemon_process import DaemonProcess
from tests.fakes.terminal import terminal
from tests.fakes.tiny_llm import build_tiny_model

FIRECTL = """
account: get, list
api-key: create, delete, get, list
audit-logs: list
batch-inference-job: create, delete, get, list
billing: export-metrics, get-usage, list-invoices, notification-settings
credit-redemption: list, redeem
dataset: create, delete, download, get, list, update
deployed-model: get, list, update
deployment: create, delete, get, list, scale, undelete, update
deployment-shape-version: get, list
dpo-job: cancel, create, delete, export-metrics, get, list, resume
evaluator-revision: alias, delete, get, list
identity-provider: create, get, list
model: create, delete, download, get, list, load-lora, prepare, unload-lora, update, upload
policy: residency
quota: get, list, update
reinforcement-fine-tuning-job: cancel, create, delete, get, list, resume, update
reservation: get, list
rlor-trainer-job: cancel, create, delete, get, list
router: create, delete, get, list, update
secret: create, delete, get, list, update
supervised-fine-tuning-job: cancel, create, delete, get, list
training-shape: clone, create, delete, get, list, update
training-shape-version: get, list, update
user: create, delete, get, list, update
"""
"""`RESOURCE: VERBS`, in the newer order."""

OLDER = """
deploy; undeploy; load-lora; unload-lora; prepare-model; import model; download model; download dataset
list models; list quotas; list reservations; list deployed-models; list audit-logs; scale deployment
undelete deployment; export billing metrics; set-api-key; signin; whoami; version; upgrade
"""

ABSENT = {
    "batch-inference-job": "jobs are not served yet",
    "dpo-job": "jobs are not served yet",
    "evaluator-revision": "evaluators are not served yet",
    "reinforcement-fine-tuning-job": "jobs are not served yet",
    "rlor-trainer-job": "jobs are not served yet",
    "supervised-fine-tuning-job": "jobs are not served yet",
    "router": "routers are not served yet",
    "training-shape": "training is not served yet",
    "training-shape-version": "training is not served yet",
    "billing list-invoices": "nobody is charged, so that there are no invoices",
    "billing notification-settings": "nobody is charged, so that there is nothing to be notified of",
    "credit-redemption": "nobody is charged, so that there are no credits",
    "policy": "one box is one place: data resides in its data directory",
}
"""By resource, or by resource and verb, with the reason."""


class Step(NamedTuple):
    words: str
    """Noun and verb."""
    arguments: str = ""
    """`{NAME}` stands for what an earlier step kept, or one of the places."""
    request: str = ""
    """`METHOD PATH` after the account, of a dry run; empty for what sends none."""
    keeps: tuple[str, str] | None = None
    """A field of the answer, and the name that it is kept as."""
    is_only_planned: bool = False


LIFE = [
    Step("account get", "hearth", "GET /v1/accounts/hearth"),
    Step("account list", "", "GET /v1/accounts"),
    Step("user create", "--user-id ann --email ann@example.com --role contributor", "POST users"),
    Step("user get", "ann", "GET users/ann"),
    Step("user list", "--filter role=contributor", "GET users"),
    Step("user update", "ann --role user", "PATCH users/ann"),
    Step("user delete", "ann", "DELETE users/ann"),
    Step("api-key create", "--display-name parity", "POST apiKeys", ("keyId", "key_id")),
    Step("api-key get", "{key_id}", "GET apiKeys"),
    Step("api-key list", "", "GET users/-/apiKeys"),
    Step("api-key delete", "{key_id}", "POST apiKeys:delete"),
    Step("secret create", "--name PARITY_TOKEN --value s3cret", "POST secrets", ("name", "secret")),
    Step("secret get", "{secret}", "GET secrets/"),
    Step("secret list", "", "GET secrets"),
    Step("secret update", "{secret} --value other", "PATCH secrets/"),
    Step("secret delete", "{secret}", "DELETE secrets/"),
    Step(
        "identity-provider create",
        "--display-name Parity --tenant-domains example.com --oidc-issuer https://issuer.example"
        " --oidc-client-id box --oidc-client-secret s3cret",
        "POST identityProviders",
        ("name", "provider"),
    ),
    Step("identity-provider get", "{provider}", "GET identityProviders/"),
    Step("identity-provider list", "", "GET identityProviders"),
    Step("dataset create", "parity-set {examples} --quiet", "POST datasets"),
    Step("dataset get", "parity-set", "GET datasets/parity-set"),
    Step("dataset list", "--order-by name", "GET datasets"),
    Step("dataset update", "parity-set --display-name Parity", "PATCH datasets/parity-set"),
    Step("dataset download", "parity-set --output-dir {downloads}", "GET datasets/parity-set:getDownloadEndpoint"),
    Step("dataset delete", "parity-set", "DELETE datasets/parity-set"),
    Step("model create", "parity-model {checkpoint} --quiet", "POST models"),
    Step("model upload", "parity-model {checkpoint} --quiet", "POST models/parity-model:", is_only_planned=True),
    Step("model get", "parity-model", "GET models/parity-model"),
    Step("model list", "", "GET models"),
    Step("model update", "parity-model --display-name Parity", "PATCH models/parity-model"),
    Step("model download", "parity-model {downloads}", "GET models/parity-model:getDownloadEndpoint"),
    Step("model prepare", "parity-model --precision BF16", "POST models/parity-model:prepare"),
    Step(
        "deployment create",
        "parity-model --deployment-id parity --max-replica-count 0 --disable-auto-deploy",
        "POST deployments",
    ),
    Step("deployment get", "parity", "GET deployments/parity"),
    Step("deployment list", "--filter baseModel:parity-model", "GET deployments"),
    Step("deployment update", "parity --display-name Parity", "PATCH deployments/parity"),
    Step("deployment scale", "parity --replica-count 0", "PATCH deployments/parity:scale"),
    Step("model load-lora", "parity-model --deployment parity", "POST deployedModels", ("name", "deployed")),
    Step("deployed-model get", "{deployed}", "GET deployedModels/"),
    Step("deployed-model list", "", "GET deployedModels"),
    Step("deployed-model update", "{deployed} --description Parity", "PATCH deployedModels/"),
    Step("model unload-lora", "parity-model --deployment parity", "DELETE deployedModels/"),
    Step("deployment delete", "parity --ignore-checks", "DELETE deployments/parity"),
    Step("deployment undelete", "parity", "POST deployments/parity:undelete"),
    Step("deployment delete", "parity --ignore-checks --hard", "DELETE deployments/parity"),
    Step("model delete", "parity-model", "DELETE models/parity-model"),
    Step("deployment-shape-version list", "-a fireworks", "GET /v1/accounts/fireworks/deploymentShapes/-/versions"),
    Step("deployment-shape-version get", "{version}", "GET /v1/accounts/fireworks/deploymentShapes/"),
    Step("quota list", "", "GET quotas"),
    Step("quota get", "disk-bytes", "GET quotas/disk-bytes"),
    Step("quota update", "disk-bytes --value 1000000000000", "PATCH quotas/disk-bytes"),
    Step("reservation get", "{reservation}", "GET reservations/"),
    Step("reservation list", "", "GET reservations"),
    Step("audit-logs list", "--page-size 5", "GET auditLogs"),
    Step("billing get-usage", "", "GET billingUsage"),
    Step("billing export-metrics", "--filename {downloads}/metrics.csv", "GET "),
]
"""In an order in which each step finds what it needs, and leaves nothing behind."""


class Cli:
    def __init__(self, daemon: DaemonProcess, home: Path) -> None:
        self.environment = {
            "HEARTH_BASE_URL": daemon.base_url,
            "HEARTH_DATA_DIR": str(daemon.data_dir),
            "XDG_CONFIG_HOME": str(home),
        }

    def __call__(self, *words: str) -> Any:
        env = {"HEARTH_API_KEY": None, "FIREWORKS_API_KEY": None, "HEARTH_PROFILE": None, **self.environment}
        result = CliRunner().invoke(build_app(), list(words), env=env, prog_name="hearth")
        assert result.exit_code == 0, f"hearth {' '.join(words)}: {result.stderr}{result.exception or ''}"
        return msgspec.json.decode(result.stdout) if "json" in words else result.stdout


@pytest.fixture(scope="module")
def cli(daemon: DaemonProcess, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    return Cli(daemon, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def tree() -> Node:
    return plant(COMMANDS, VERBS, NOUNS)


def firectl_commands() -> list[str]:
    lines = [line.split(": ") for line in FIRECTL.strip().splitlines()]
    return [f"{resource} {verb}" for resource, verbs in lines for verb in verbs.split(", ")]


def is_absent(command: str) -> bool:
    return command in ABSENT or command.split()[0] in ABSENT


def find(tree: Node, words: str) -> object:
    node: Node | None = tree
    for word in words.split():
        node = node.children.get(word) if node is not None else None
    return node.command if node is not None else None


@pytest.mark.parametrize("words", firectl_commands())
def test_a_command_is_there_in_both_word_orders_or_said_to_be_absent(tree: Node, words: str) -> None:
    noun, verb = words.split()
    found = find(tree, words)
    assert (found is None) == is_absent(words)
    if verb not in ("load-lora", "unload-lora"):
        # These two stand alone in the older order.
        assert find(tree, f"{verb} {noun}") is found


@pytest.mark.parametrize("words", [words.strip() for words in re.split(r"[;\n]", OLDER.strip())])
def test_the_older_words_are_understood(tree: Node, words: str) -> None:
    assert find(tree, words) is not None


def test_each_command_that_is_there_is_lived_through() -> None:
    assert {step.words for step in LIFE} == {words for words in firectl_commands() if not is_absent(words)}


def test_a_life_in_firectls_words(cli: Cli, tmp_path: Path) -> None:
    kept = prepared(cli, tmp_path)
    for step in LIFE:
        noun, verb = step.words.split()
        arguments = [word.format(**kept) for word in step.arguments.split()]
        newer, older = (noun, verb, *arguments), (verb, noun, *arguments)
        if verb in ("load-lora", "unload-lora"):
            older = (verb, *arguments)
        planned = cli(*newer, "--dry-run", "-o", "json")
        assert without_times(cli("--dry-run", "-o", "json", *older)) == without_times(planned)
        assert f"{planned['method']} {planned['path']}".startswith(planned_start(step.request)), step
        if step.is_only_planned:
            continue
        answer = cli(*newer, "-o", "json")
        if verb in ("get", "list"):
            assert without_times(cli("-o", "json", *older)) == without_times(answer)
        if step.keeps is not None:
            field, name = step.keeps
            kept[name] = answer[field]
    cli("reservation", "delete", kept["reservation"])
    cli("identity-provider", "delete", kept["provider"])


def prepared(cli: Cli, folder: Path) -> dict[str, str]:
    """What the life needs from elsewhere. The reservation begins long after the tests."""
    lines = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 3
    (folder / "examples.jsonl").write_text(lines)
    (folder / "downloads").mkdir()
    cluster = cli("get", "cluster", "local", "-o", "json")
    accelerator = next(iter(cluster["acceleratorCounts"]))
    words = ("--accelerator-type", accelerator, "--start-time", "2199-01-01T00:00:00Z", "-o", "json")
    versions = cli("list", "deployment-shape-versions", "-a", "fireworks", "-o", "json")
    return {
        "examples": str(folder / "examples.jsonl"),
        "downloads": str(folder / "downloads"),
        "checkpoint": str(build_tiny_model(folder / "checkpoint", "llama")),
        "version": versions[0]["name"],
        "reservation": cli("create", "reservation", *words)["name"],
    }


def planned_start(request: str) -> str:
    method, _, path = request.partition(" ")
    return request if path.startswith("/") else f"{method} /v1/accounts/hearth/{path}"


def without_times(answer: Any) -> Any:
    """Of what changes from one moment to the next."""
    if isinstance(answer, list):
        return [without_times(each) for each in answer]
    if isinstance(answer, dict):
        volatile = ("Time", "Used", "usage")
        return {name: without_times(value) for name, value in answer.items() if not name.endswith(volatile)}
    return answer


def test_in_a_terminal_waiting_shows_progress_and_the_result(cli: Cli, daemon: DaemonProcess) -> None:
    words = ("create", "deployment", "ember-chat", "--deployment-id", "parity-wait", "--wait")
    nobody = {"HEARTH_API_KEY": "", "FIREWORKS_API_KEY": "", **cli.environment}
    with terminal([sys.executable, "-m", "appliance", *words, "--min-replica-count", "1"], nobody) as screen:
        screen.read_until(r"parity-wait · ")
        screen.read_until(r"State: +READY")
        assert screen.wait() == 0
    assert cli("deployment", "delete", "parity-wait", "--hard", "--ignore-checks", "--wait", "-o", "json") == {}

"""The rules of the house that a machine can check. An exception is named here, with its reason."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("appliance", "runtime", "models")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
EVERYTHING = SOURCES + TESTS + BENCHMARKS

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60

BANNED_FILE_NAMES = {"utils", "util", "helpers", "common", "misc", "base", "manager", "core"}
BANNED_WORDS = re.compile(r"\b(seq_id|rid|page_table|ckpt_dir|TODO|FIXME|XXX)\b")
FLASH_ATTENTION = {"runtime/llm/attention_flash.py", "tests/fakes/flash_attention.py"}
"""They name an argument of a package, whose word for a block table is its own."""
SQL = re.compile(r"\b(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+TABLE|PRAGMA)\b", re.S)
SERIALISERS_THAT_RUN_CODE = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}

# Data without behaviour, or entry points that end-to-end tests run as processes.
WITHOUT_OWN_TEST = {
    "appliance/__main__.py",
    "appliance/domain/accounting.py",
    "appliance/domain/fleet.py",
    "appliance/domain/nouns.py",
    "appliance/domain/people.py",
    "appliance/domain/serving.py",
    "appliance/domain/storage.py",
    "appliance/errors.py",
    "appliance/operations/findings.py",
    "appliance/orchestrator/fleet.py",
    "appliance/section.py",
    "appliance/services/calls.py",
    "models/conversation.py",
    "models/info.py",
    "models/refusal.py",
    "runtime/__main__.py",
    "runtime/engine.py",
    "runtime/diffusion/painting.py",
    "runtime/llm/patches/layer_operations.py",
    "runtime/llm/sampling/kernels.py",
    "runtime/llm/parallel/__main__.py",
    "runtime/message.py",
    "runtime/quantiser/__main__.py",
    "runtime/settings.py",
    "runtime/submission.py",
    "runtime/tasks/embedding.py",
    "runtime/tasks/images.py",
    "runtime/tasks/speech.py",
    "runtime/whisper/windows.py",
}

# The outermost loops: below them an exception of any kind becomes an answer, a log line or the end of a process.
MAY_CATCH_EVERYTHING = {
    "appliance/api/codec.py",
    "appliance/api/errors.py",
    "appliance/orchestrator/actions.py",
    "appliance/orchestrator/adapters.py",
    "appliance/orchestrator/roster.py",
    "appliance/orchestrator/supervisor.py",
    "appliance/orchestrator/worker_client.py",
    "appliance/services/autoscaler.py",
    "appliance/services/imports.py",
    "appliance/services/preparations.py",
    "appliance/services/ticks.py",
    "models/chat_template.py",
    "models/image_decoding.py",
    "models/image_editing.py",
    "runtime/llm/parallel/__main__.py",
    "runtime/diffusion/engine.py",
    "runtime/embedding/frontend.py",
    "runtime/embedding/texts.py",
    "runtime/adapter_shelf.py",
    "runtime/llm/engine.py",
    "runtime/llm/frontend.py",
    "runtime/llm/grammar/compiler.py",
    "runtime/llm/masks.py",
    "runtime/llm/vision/features.py",
    "runtime/llm/speculation/speculator.py",
    "runtime/llm/vocabulary.py",
    "runtime/whisper/decoding.py",
    "runtime/worker.py",
}

MAY_START_PROCESSES = {
    "runtime/llm/native/build.py": "what is in C is compiled when Hearth is installed",
    "appliance/cli/lease.py": "the program that a lease is for is run by its user, outside the daemon",
    "appliance/orchestrator/process.py": "the only place where workers begin",
    "appliance/services/dataset_checking.py": "strangers' files are read by processes that can be killed",
    "appliance/services/image_editing.py": "strangers' pictures are decoded by processes that can be killed",
    "appliance/services/quantising.py": "a model is quantised by a process that yields to all others",
    "runtime/llm/parallel/leader.py": "a model on several devices is computed by a process for each",
    "models/framed_child.py": "strangers' data and programs are handled by processes that can be killed",
    "models/rendering.py": "templates are strangers' programs and must be killable",
}
MAY_START_THREADS = {
    "appliance/operations/encryption.py": "age works at one end of a pipe while the archive is written at the other",
    "appliance/operations/machine_checks.py": "a sick driver hangs for ever, and the doctor must not",
    "runtime/embedding/long_step.py": "a long text may take longer than the daemon waits for a sign of life",
    "runtime/embedding/frontend.py": "thousands of texts take seconds to tokenise, and everybody else goes on",
    "runtime/adapter_shelf.py": "an addon is read from disk while everybody else goes on",
    "runtime/llm/grammar/compiler.py": "a strange grammar may take seconds to compile, and everybody else goes on",
    "runtime/llm/weight_transfer.py": "a disk is as fast as it can be only when several parts are asked for at once",
    "runtime/llm/parallel/leader.py": "a process that waits for a dead one learns of it",
    "runtime/llm/masks.py": "masks are filled while the device computes",
    "runtime/whisper/engine.py": "a batch may take longer than the daemon waits for a sign of life",
    "runtime/whisper/uploads.py": "files are decoded and searched for speech while others are listened to",
    "runtime/worker.py": "the socket thread",
}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def calls(path: Path) -> Iterator[str]:
    """Dotted names of everything a file calls."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def strings(path: Path) -> Iterator[str]:
    """String literals that are not docstrings."""
    tree = ast.parse(path.read_text())
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


def test_files_hold_one_idea() -> None:
    too_long = [
        f"{relative(path)}: {lines}"
        for path in EVERYTHING
        if (lines := len(path.read_text().splitlines())) > FILE_LINES_MAX
    ]
    assert not too_long


def test_functions_fit_a_screen() -> None:
    too_long = [
        f"{relative(path)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1}"
        for path in EVERYTHING
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert not too_long


def test_no_drawer_names_and_no_banned_words() -> None:
    drawers = [relative(path) for path in EVERYTHING if path.stem in BANNED_FILE_NAMES]
    words = [
        f"{relative(path)}: {match.group()}"
        for path in EVERYTHING
        if path != Path(__file__)
        for match in BANNED_WORDS.finditer(path.read_text())
        if not (match.group() == "page_table" and relative(path) in FLASH_ATTENTION)
    ]
    assert not drawers
    assert not words


def test_modules_say_what_they_own() -> None:
    silent = [
        relative(path)
        for path in SOURCES
        if path.name != "__init__.py" and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_sql_lives_in_store_only() -> None:
    store = ROOT / "appliance" / "store"
    elsewhere = [path for path in SOURCES if store not in path.parents]
    assert not [relative(path) for path in elsewhere if {"aiosqlite", "sqlite3"} & set(imports(path))]
    assert not [f"{relative(path)}: {text[:60]}" for path in elsewhere for text in strings(path) if SQL.search(text)]


def test_environment_is_read_in_config_only() -> None:
    readers = [
        relative(path)
        for path in SOURCES
        if re.search(r"\bos\.(environ|getenv)\b", path.read_text()) and relative(path) != "appliance/config.py"
    ]
    assert not readers


def test_nothing_is_unpickled() -> None:
    assert not [relative(path) for path in EVERYTHING if SERIALISERS_THAT_RUN_CODE & set(imports(path))]
    assert not [relative(path) for path in SOURCES if {"torch.load", "torch.save", "np.load"} & set(calls(path))]


def test_async_stays_in_the_daemon() -> None:
    coroutines = [
        relative(path)
        for path in SOURCES
        if not relative(path).startswith("appliance/")
        and any(isinstance(node, ast.AsyncFunctionDef) for node in ast.walk(ast.parse(path.read_text())))
    ]
    assert not coroutines


def test_processes_and_threads_begin_in_named_places() -> None:
    starts_process = re.compile(r"(create_subprocess_\w+|Popen|subprocess\.run|os\.fork|os\.posix_spawn)$")
    for path in SOURCES:
        for call in calls(path):
            if starts_process.search(call):
                assert relative(path) in MAY_START_PROCESSES, call
            if call in {"threading.Thread", "Thread", "ThreadPoolExecutor"}:
                assert relative(path) in MAY_START_THREADS, call


def test_http_statuses_are_decided_in_one_file() -> None:
    for path in SOURCES:
        if relative(path) != "appliance/api/errors.py":
            assert not re.search(r"\bstatus=[45]\d\d\b|\bweb\.HTTP(?!Method)\w+", path.read_text()), relative(path)


def test_broad_handlers_are_the_outermost_loops() -> None:
    broad = {
        relative(path)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"})
    }
    assert broad <= MAY_CATCH_EVERYTHING


def test_templates_are_rendered_in_one_place() -> None:
    users = [relative(path) for path in SOURCES if any(name.split(".")[0] == "jinja2" for name in imports(path))]
    assert set(users) <= {"models/chat_template.py"}


def test_tests_patch_nothing_of_ours() -> None:
    assert not [relative(path) for path in TESTS if "unittest.mock" in set(imports(path))]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_has_its_test(package: str) -> None:
    missing = []
    for path in (ROOT / package).rglob("*.py"):
        name = relative(path)
        if path.name == "__init__.py" or name in WITHOUT_OWN_TEST:
            continue
        expected = ROOT / "tests" / path.relative_to(ROOT).parent / f"test_{path.stem}.py"
        if not expected.exists():
            missing.append(name)
    assert not missing


def test_readme_map_equals_the_packages() -> None:
    readme = (ROOT / "README.md").read_text()
    mapped = set(re.findall(r"^\| `((?:appliance|runtime|models)[\w/]*)/` \|", readme, re.M))
    real = {relative(path.parent) for path in SOURCES if path.name != "__init__.py"}
    assert mapped == real

"""The daemon does what /openapi.json says: schemathesis asks it thousands of questions made from the document.

Every check is on. Workers are fake, so that an answer takes milliseconds: what they say is not what is tested here.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.daemon_process import DaemonProcess, running_daemon

SEED = 20261121
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
TIMEOUT_S = 240.0
FAKE_WORKER = f"{sys.executable} -m tests.fakes.fake_worker"

# A request that fits its schema may be refused for what no schema says (see contract_hooks.py, which checks how), so
# 400 and 413 are answers to such requests. 503 is no mistake either: a lease for which there is no room, a model that
# is being loaded. It is documented, and where it is not, status_code_conformance says so.
CONFIGURATION = """
hooks = "tests.end_to_end.contract_hooks"
seed = {seed}
request-timeout = 30
continue-on-failure = true

[auth.openapi]
key.bearer = "{key}"
keyHeader.api_key = "{key}"

[parameters]
"path.account_id" = "hearth"

[checks]
enabled = true
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 501, 503]
positive_data_acceptance.expected-statuses = ["2xx", "3xx", 400, 401, 403, 404, 409, 413, 429, 501, 503]

[phases.coverage]
unexpected-methods = ["PUT", "OPTIONS"]

[phases.fuzzing.generation]
max-examples = 4

[phases.stateful]
max-steps = 4
generation.max-examples = 30

# Their bodies are those of the creations, whose every edge is tried, or are not read at all: these are asked at random,
# which is a third of the time for nothing less.
[[operations]]
include-operation-id = {twins}
phases.coverage.enabled = false
"""
TWINS = [
    "animate_image",
    "edit_image",
    "edit_with_kontext",
    "follow_image",
    "get_kontext_result",
    "import_model",
    "make_qr_code",
    "make_video",
    "update_dataset",
    "update_deployment",
    "update_deployment_shape",
    "update_identity_provider",
    "update_model",
    "update_reservation",
]


@pytest.mark.timeout(TIMEOUT_S + 60)
def test_every_answer_is_one_that_the_document_describes(tmp_path: Path) -> None:
    with running_daemon(
        tmp_path / "data", worker_command=FAKE_WORKER, num_spare_workers=0, failed_auth_per_minute=1_000_000
    ) as daemon:
        configuration = write_configuration(tmp_path, daemon)
        asked = subprocess.run(
            [SCHEMATHESIS, "--config-file", configuration, "run", f"{daemon.base_url}/openapi.json"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        log = daemon.log()
    print(asked.stdout)
    assert asked.returncode == 0, f"seed {SEED}:\n{asked.stdout[-20_000:]}\n{asked.stderr[-2000:]}"
    assert re.search(r"Tested: +(\d+)", asked.stdout), asked.stdout
    assert "Traceback" not in log


def write_configuration(directory: Path, daemon: DaemonProcess) -> Path:
    path = directory / "schemathesis.toml"
    path.write_text(CONFIGURATION.format(seed=SEED, key=daemon.api_key, twins=json.dumps(TWINS)))
    return path

"""What a person would look at from outside: metrics, processes, one question and its answer."""

from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess


def metric(daemon: DaemonProcess, name: str, deployment: str | None = None) -> float:
    """Sum of one metric over its labels, or over those of one deployment."""
    with daemon.client() as client:
        lines = client.get("/metrics").text.splitlines()
    found = [line for line in lines if line.split("{")[0].split(" ")[0] == name]
    if deployment is not None:
        found = [line for line in found if f'deployment="{deployment}"' in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def worker_pids(daemon: DaemonProcess) -> set[int]:
    return {worker.pid for worker in daemon.workers()}


def ask(daemon: DaemonProcess, text: str = "What is Hearth?", model: str = EMBER) -> str:
    """One whole answer; the daemon waits for a replica if there is none."""
    with daemon.client() as client:
        body = {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0}
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["message"]["content"])

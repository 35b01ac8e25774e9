"""Every message between the daemon and a worker, and nothing else. Imports msgspec and the standard library only.

A frame on the worker's unix socket is a 4-byte big-endian length followed by one msgpack-encoded message.
The worker says `Hello` first; the daemon answers with `Load`, to a spare worker when it needs one; after `Loaded`
tasks flow. Read with `match`; the last case is `assert_never`. What a generation asks for is in `submission.py`, what
is asked of other engines, and their answers, in `tasks/`, what an engine is told to be in `settings.py`.
"""

from struct import Struct
from typing import Literal

import msgspec

from runtime.message import FailureCode, Message, Task, Value
from runtime.settings import EngineSettings
from runtime.submission import (
    ChatPrompt,
    GrammarConstraint,
    JsonConstraint,
    SamplingParams,
    TextPrompt,
    TokenPrompt,
)
from runtime.tasks.embedding import Embed, Embedded, Score, Scored
from runtime.tasks.images import Draw, Drawing, Drawn
from runtime.tasks.speech import (
    Align,
    AudioChunk,
    Cleared,
    ClearState,
    Heard,
    Listen,
    Trace,
    Traced,
    Transcribe,
    Transcribed,
)

PROTOCOL_VERSION = 1
FRAME_BYTES_MAX = 16 * 1024 * 1024
FRAME_HEADER = Struct(">I")


class ProtocolError(Exception):
    """The peer sent something that is not the protocol; the connection is of no more use."""


# ---- daemon → worker


class Load(Message, frozen=True, kw_only=True):
    """Become an engine, of the kind that `settings` are for."""

    model_dir: str
    file_sha256: dict[str, str]
    """Every file the worker may read from `model_dir`, as inspected at import."""
    settings: EngineSettings
    deployment: str = ""
    """Full name, shown in the process list of a worker that was a spare; empty: it keeps the title it has."""
    replica: int = 0
    """Likewise."""

    @property
    def kind(self) -> str:
        return str(self.settings.__struct_config__.tag)


class Submit(Task, frozen=True, kw_only=True):
    """One generation."""

    prompt: ChatPrompt | TextPrompt | TokenPrompt
    sampling: SamplingParams = SamplingParams()
    num_choices: int = 1
    max_tokens: int | None = None
    """Lowered to what fits the context; None: as much as fits."""
    is_overflow_refused: bool = False
    """Refuse a `max_tokens` that does not fit the context instead of lowering it."""
    stop: list[str] = []
    stop_token_ids: list[int] = []
    ignore_eos: bool = False
    num_logprobs: int | None = None
    """None: no logprobs; k: the chosen token's and the k most likely ones'."""
    num_echoed_tokens: int | None = None
    """So many of the prompt's last tokens are given back ahead of each choice, with their logprobs if any are asked
    for; None: none, a number beyond the prompt's length: all."""
    shows_prompt: bool = False
    """Send `Delta.prompt` with the first delta."""
    constraint: JsonConstraint | GrammarConstraint | None = None
    prediction: str | list[int] = ""
    """What the client expects as answer, in text or tokens: a hint for speculation, without effect on the result."""
    cache_namespace: str = ""
    """Prefix-cache blocks are shared only inside one namespace; the daemon derives it from the account."""
    cache_max_tokens: int | None = None
    """Prompt tokens that may be taken from the prefix cache at most; None: any number."""


class LoadAdapter(Message, frozen=True, kw_only=True):
    """Make a LoRA addon ready for requests that name it; answered by AdapterLoaded or AdapterFailed.

    An addon of that name that is there already is replaced, and serves those that have it to their end. Loaded addons
    outlive Sleep and Wake; in between none is loaded.
    """

    adapter: str
    """The daemon's name for it, unique in this worker."""
    directory: str
    file_sha256: dict[str, str]


class UnloadAdapter(Message, frozen=True, kw_only=True):
    """Requests that name it finish; later ones are refused. Not answered; an unknown one is ignored."""

    adapter: str


class Sleep(Message, frozen=True, kw_only=True):
    """Give the devices' memory back and keep the weights in host memory; sent only while no request is there."""


class Wake(Message, frozen=True, kw_only=True):
    """Take the devices' memory again, as it was; answered by Awake."""


class Abort(Message, frozen=True, kw_only=True):
    """Forget a request in whatever state it is. No answer follows; unknown ids are ignored."""

    request_id: str


class Shutdown(Message, frozen=True, kw_only=True):
    """Exit with status 0 now; the daemon has drained before."""


OtherTask = Embed | Score | Transcribe | Align | Listen | Draw
"""Answered by pieces; a generation by deltas."""
AnyTask = Submit | OtherTask
AnyFollowUp = AudioChunk | Trace | ClearState
ToWorker = Load | AnyTask | AnyFollowUp | LoadAdapter | UnloadAdapter | Abort | Sleep | Wake | Shutdown


# ---- worker → daemon


class Hello(Message, frozen=True, kw_only=True):
    protocol: int
    pid: int


class Prepared(Message, frozen=True, kw_only=True):
    """A spare worker has imported its libraries and made its device context: its Load will be short."""

    footprint_bytes: int
    """As in Loaded."""


class LoadProgress(Message, frozen=True, kw_only=True):
    stage: str
    """`imports`, `weights`, `warm-up` …"""
    fraction: float
    """0 to 1 over the whole load."""


class Loaded(Message, frozen=True, kw_only=True):
    footprint_bytes: int
    """Measured: what this process really holds after the load, on the device (CPU: resident set + KV pool).

    What is set aside for addons is counted, although nothing holds it yet. Of several devices the one that holds most.
    """
    num_blocks: int = 0
    """Of the KV cache, where the engine has one; so are the next, in tokens."""
    block_size: int = 0
    max_context_length: int = 0
    kv_bytes: int = 0
    """Of the footprint: the KV pool."""
    load_ms: dict[str, float]
    """Duration by stage, in their order; `stage/part` is a part of a stage, beside which others may have gone on."""


class LoadFailed(Message, frozen=True, kw_only=True):
    code: FailureCode
    message: str


class AdapterLoaded(Message, frozen=True, kw_only=True):
    adapter: str


class AdapterFailed(Message, frozen=True, kw_only=True):
    adapter: str
    code: FailureCode
    message: str


class Asleep(Message, frozen=True, kw_only=True):
    host_bytes: int
    """Measured: what this process still holds of the host's memory."""


class Awake(Message, frozen=True, kw_only=True):
    load_ms: dict[str, float]
    """Duration by stage."""


class TopLogprob(Value, frozen=True, kw_only=True, array_like=True):
    token_id: int
    token: bytes
    logprob: float


class TokenLogprob(Value, frozen=True, kw_only=True, array_like=True):
    """One generated or echoed token; `logprob` is of the raw distribution, before any sampling rule."""

    token_id: int
    token: bytes
    logprob: float | None
    """None for the first token of a prompt, which nothing predicts."""
    top: list[TopLogprob] = []


class Usage(Value, frozen=True, kw_only=True, array_like=True):
    num_prompt_tokens: int
    num_cached_tokens: int
    num_completion_tokens: int
    num_reasoning_tokens: int = 0
    """Of the completion."""


class Performance(Value, frozen=True, kw_only=True, array_like=True):
    """How the worker spent its time on one choice, in seconds, and what speculation brought."""

    tokenizer_queue_s: float
    tokenizer_s: float
    prefill_queue_s: float
    prefill_s: float
    generation_queue_s: float
    """Waiting again after a preemption."""
    generation_s: float
    num_concurrent_requests: int
    """Running when this one finished, itself included."""
    num_predicted_tokens: int = 0
    """Length of the client's prediction."""
    num_predicted_accepted: int = 0
    num_drafted_tokens: int = 0
    """Proposed by any speculator and verified."""
    num_accepted_tokens: int = 0


class PromptOutput(Value, frozen=True, kw_only=True, array_like=True):
    """The prompt as the engine computed it."""

    text: str
    token_ids: list[int]


class ToolCallDelta(Value, frozen=True, kw_only=True, array_like=True):
    """Id and name come once, when the call begins; arguments are JSON text in pieces."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Delta(Value, frozen=True, kw_only=True, array_like=True):
    """What one choice of one request gained. Text never ends inside a character or a possible stop string."""

    request_id: str
    index: int = 0
    """Choice, 0 to num_choices - 1."""
    text: str = ""
    token_ids: list[int] = []
    logprobs: list[TokenLogprob] | None = None
    finish_reason: Literal["stop", "length", "tool_calls"] | None = None
    usage: Usage | None = None
    """Set with `finish_reason`."""
    reasoning: str = ""
    tool_calls: list[ToolCallDelta] = []
    raw_text: str = ""
    """All text of `token_ids`, markup of calls and thoughts included; only when `Submit.shows_prompt`."""
    prompt: PromptOutput | None = None
    """In the first delta of choice 0, when `Submit.shows_prompt`."""
    echo_token_ids: list[int] = []
    """In a choice's first delta: the echoed prompt tokens. Their text leads `text`, their logprobs lead `logprobs`."""
    performance: Performance | None = None
    """Set with `finish_reason`."""
    num_prompt_tokens: int = 0
    """In a choice's first delta, for who must count a request that never finishes; so too the next."""
    num_cached_tokens: int = 0


class Outputs(Message, frozen=True, kw_only=True):
    """All that one step (or several, when the socket is behind) produced."""

    deltas: list[Delta]


class Failed(Message, frozen=True, kw_only=True):
    """The end of one request; the worker goes on. No delta follows."""

    request_id: str
    code: FailureCode
    message: str
    param: str | None = None
    retry_after_s: float | None = None
    """When the same request may succeed."""


class Heartbeat(Message, frozen=True, kw_only=True):
    """Sent at least every second by the socket thread. A counter that stands still while there is work is a stall."""

    num_steps: int
    """Steps the engine loop has finished, and idle turns of it."""
    is_busy: bool
    """Whether the engine loop has work."""
    num_running: int
    num_waiting: int
    num_free_blocks: int
    num_blocks: int
    num_prompt_tokens: int = 0
    """Since the load, of requests that were admitted."""
    num_cached_tokens: int = 0
    """Of the prompt tokens: those found in the prefix cache."""
    num_generated_tokens: int = 0
    """Since the load."""
    step_s: float = 0.0
    """One step of the model, on average of late."""
    cache_kept_s: float = 0.0
    """How long contents of the prefix cache are kept unused of late; 0: nothing was forgotten yet."""


AnyPiece = Embedded | Scored | Transcribed | Heard | Traced | Cleared | Drawing | Drawn

FromWorker = (
    Hello
    | Prepared
    | LoadProgress
    | Loaded
    | LoadFailed
    | Outputs
    | AnyPiece
    | Failed
    | AdapterLoaded
    | AdapterFailed
    | Asleep
    | Awake
    | Heartbeat
)

_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def encode_frame(message: ToWorker | FromWorker) -> bytes:
    """Length prefix and payload; raises ProtocolError when the payload exceeds FRAME_BYTES_MAX."""
    payload = _encoder.encode(message)
    if len(payload) > FRAME_BYTES_MAX:
        raise ProtocolError(f"a {type(message).__name__} of {len(payload)} bytes exceeds {FRAME_BYTES_MAX}")
    return FRAME_HEADER.pack(len(payload)) + payload


def frame_length(header: bytes) -> int:
    """Payload length announced by a 4-byte header; raises ProtocolError when it exceeds FRAME_BYTES_MAX."""
    (length,) = FRAME_HEADER.unpack(header)
    if length > FRAME_BYTES_MAX:
        raise ProtocolError(f"a frame of {length} bytes exceeds {FRAME_BYTES_MAX}")
    return int(length)


def decode_to_worker(payload: bytes) -> ToWorker:
    """Raises ProtocolError naming the offending path."""
    try:
        return _to_worker.decode(payload)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"bad message to worker: {error}") from error


def decode_from_worker(payload: bytes) -> FromWorker:
    """Raises ProtocolError naming the offending path."""
    try:
        return _from_worker.decode(payload)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"bad message from worker: {error}") from error

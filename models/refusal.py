"""Why a model folder is not taken in: one exception, a closed set of reasons, a message that names the file."""

from enum import StrEnum

CONFIG = "config.json"


class RefusalReason(StrEnum):
    UNREADABLE = "unreadable"
    """The operating system would not open or read it."""
    UNSAFE_FILE = "unsafe_file"
    """A link, a device, a name that leads elsewhere, a folder without end."""
    PICKLE = "pickle"
    """A format whose reading can run code."""
    MISSING_FILE = "missing_file"
    TOO_LARGE = "too_large"
    MALFORMED_JSON = "malformed_json"
    CORRUPT_WEIGHTS = "corrupt_weights"
    MISSING_TENSOR = "missing_tensor"
    DUPLICATE_TENSOR = "duplicate_tensor"
    UNEXPECTED_TENSOR = "unexpected_tensor"
    WRONG_TENSOR = "wrong_tensor"
    """Shape or dtype differs from what the config calls for."""
    INVALID_CONFIG = "invalid_config"
    INVALID_TOKENIZER = "invalid_tokenizer"
    UNSUPPORTED_ARCHITECTURE = "unsupported_architecture"
    UNSUPPORTED_ATTENTION = "unsupported_attention"
    UNSUPPORTED_QUANTIZATION = "unsupported_quantization"
    UNSUPPORTED_ADDON = "unsupported_addon"
    """A kind of adapter, or an option of one, that is not applied here."""


class ModelRefused(Exception):
    """The folder cannot be served. `message` is safe to show: it holds names inside the folder, never paths."""

    def __init__(self, reason: RefusalReason, message: str, file: str | None = None) -> None:
        self.reason = reason
        self.message = f"{file}: {message}" if file else message
        self.file = file
        super().__init__(self.message)


def invalid_config(message: str) -> ModelRefused:
    """For what config.json says that makes no sense."""
    return ModelRefused(RefusalReason.INVALID_CONFIG, message, CONFIG)

"""The headers of answers."""

from typing import Any

from appliance.api.data.generation import IGNORED_FIELDS_HEADER
from appliance.api.data.rate_limit_headers import MEANINGS
from appliance.api.data.response_format import UNENFORCED_HEADER

OF_EVERY_ANSWER: dict[str, Any] = {
    "x-request-id": {
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 128},
        "description": "The request's own, if it has one that is fit; else the server's, which is in its log.",
    },
}
OF_INFERENCE: dict[str, Any] = OF_EVERY_ANSWER | {
    IGNORED_FIELDS_HEADER: {"schema": {"type": "string"}, "description": "Fields of the body that had no effect."},
    UNENFORCED_HEADER: {
        "schema": {"type": "string"},
        "description": "What of a JSON schema could not be enforced.",
    },
    **{name: {"schema": {"type": "string"}, "description": meaning} for name, meaning in MEANINGS.items()},
}

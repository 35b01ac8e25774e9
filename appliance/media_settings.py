"""Settings of pictures and sound that strangers send, or name. Part of `config.py`, which alone reads them."""

from urllib.parse import urlsplit

from appliance.section import GIB, MIB, Section


class ImageSettings(Section, frozen=True, kw_only=True):
    """Images in requests, and pictures that are made."""

    images_max: int = 30
    """Images in one request."""
    image_bytes_max: int = 5 * MIB
    """Of one image, as a file."""
    image_request_bytes_max: int = 10 * MIB
    """Of all images of a request together, as they came: in base64, or fetched."""
    image_origins: list[str] = []
    """Where images may be fetched from, e.g. https://images.example.com; none by default, so that clients send them
    as data: URIs. A name must lead to public addresses; an address written here may be a private one."""
    image_fetch_timeout_s: float = 5.0
    """For one image, redirects included."""
    pictures_max: int = 10
    """That one request may have made."""
    picture_steps_max: int = 150
    """Of each of them."""
    image_edits_max: int = 2
    """Pictures whose edges or masks are found at the same time, each in a process of its own; others wait."""

    def __post_init__(self) -> None:
        _check_origins("image_origins", self.image_origins)


class SpeechSettings(Section, frozen=True, kw_only=True):
    """Sound that is listened to."""

    speech_model: str = "whisper-v3"
    """Asked by requests that name no model; as a request would name it."""
    audio_bytes_max: int = GIB
    """Of one sound file, as it was sent or fetched; no more than 1 GiB."""
    audio_origins: list[str] = []
    """Where sound files may be fetched from, under the rules of `image_origins`; none by default, so that clients send
    them."""
    audio_fetch_timeout_s: float = 60.0
    """For one sound file, redirects included."""
    replaced_alignment_models: list[str] = []
    """Alignment models that are not here and that clients may name all the same: the speech model's own times are
    given instead. With ["tdnn_ffn"] old clients need no change, for they name it in every request."""
    live_idle_timeout_s: float = 60.0
    """A conversation in which nothing is sent for this long is ended."""
    live_sound_s_max: float = 3600.0
    """Of one conversation; what a budget has to have left when it begins."""
    live_ahead_s_max: float = 30.0
    """Sound that was sent and not heard yet; more is not read from the client until some was heard."""
    live_frame_bytes_max: int = MIB
    """Of one message of a client."""

    def __post_init__(self) -> None:
        _check_origins("audio_origins", self.audio_origins)
        if self.audio_bytes_max > GIB:
            raise ValueError("audio_bytes_max: more than 1 GiB")


def _check_origins(name: str, origins: list[str]) -> None:
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError(f"{name}: {origin!r} is not of the form https://host")

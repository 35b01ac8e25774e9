"""One run of a command: where to, as whom, what of it is sent, and in which form answers are printed."""

from functools import cached_property
from typing import TYPE_CHECKING

from appliance.cli.credentials import Asked, Credentials, resolve
from appliance.cli.output import OutputFormat, print_json, print_line
from appliance.config import ClientEnvironment, client_environment
from appliance.errors import Code, HearthError

if TYPE_CHECKING:
    from appliance.sdk.client import Client, Planned
    from appliance.sdk.listing import Listing


class NotSent(Exception):
    """Ends a dry run: here is what comes next. No SdkError, so that no command takes it for a refusal."""

    def __init__(self, planned: "Planned") -> None:
        super().__init__(f"{planned.method} {planned.path}")
        self.planned = planned


class Session:
    """`asked` is what the command line says; the rest comes from the environment, a profile or this machine."""

    def __init__(
        self,
        asked: Asked,
        output: OutputFormat | None = None,
        *,
        listing: "Listing | None" = None,
        is_dry_run: bool = False,
        sends_reads: bool = True,
    ) -> None:
        self.environment: ClientEnvironment = client_environment()
        self.asked = asked
        self.is_json = output is OutputFormat.JSON
        self.listing = listing
        self.is_dry_run = is_dry_run
        self._sends_reads = sends_reads
        """In a dry run: whether the command reads only to find out what to change."""

    @cached_property
    def credentials(self) -> Credentials:
        return resolve(self.environment, self.asked)

    @cached_property
    def client(self) -> "Client":
        if self.asked.profile and not self.credentials.is_signed_in:
            profile = self.asked.profile
            raise HearthError(Code.INVALID, f"there is no profile {profile!r}: hearth signin --profile {profile}")
        return self.connect()

    def connect(self, api_key: str | None = None, answer_timeout_s: float | None = None) -> "Client":
        """A client of its own, with another key, or less patience."""
        # Imported on first use: `hearth --help` must not pay for an HTTP library.
        from appliance.sdk.client import ANSWER_TIMEOUT_S, Client

        where = self.credentials
        return Client(
            where.base_url,
            api_key or where.api_key,
            where.account_id,
            listing=self.listing,
            before=self._stop if self.is_dry_run else None,
            keeps_originals=self.is_json,
            answer_timeout_s=answer_timeout_s or ANSWER_TIMEOUT_S,
        )

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.close()

    def _stop(self, planned: "Planned") -> None:
        if planned.method != "GET" or not self._sends_reads:
            raise NotSent(planned)


def print_planned(session: Session, planned: "Planned") -> None:
    """The request as it would be sent: method, path and query, then the body."""
    if session.is_json:
        return print_json(planned)
    query = "&".join(f"{name}={value}" for name, value in planned.query.items())
    print_line(f"{planned.method} {planned.path}{'?' if query else ''}{query}")
    return None if planned.body is None else print_json(planned.body)

"""`hearth version`: of this program, and of the daemon where one answers."""

from appliance.cli.commands import Command, Session
from appliance.cli.output import print_json, print_line
from appliance.sdk.errors import SdkError

PATIENCE_S = 2.0
"""For a daemon that may not be there."""


def version(session: Session) -> None:
    """Show the version of this program, and of the daemon if it answers."""
    from importlib.metadata import version as distribution_version

    own, daemon = distribution_version("hearth"), _daemon_version(session)
    base_url = session.credentials.base_url
    if session.is_json:
        about_daemon = {"daemon": {"version": daemon, "baseUrl": base_url}} if daemon else {}
        return print_json({"version": own, **about_daemon})
    print_line(f"hearth {own}")
    return print_line(f"daemon {daemon} at {base_url}") if daemon else None


def _daemon_version(session: Session) -> str:
    """Empty without a daemon, and for those without a key."""
    try:
        with session.connect(answer_timeout_s=PATIENCE_S) as client:
            return client.key_holder.version
    except SdkError:
        return ""


COMMANDS = [Command("version", None, version, ("hearth version", "hearth version -o json"), is_local=True)]

"""How a server that somebody else started is reached: its key, and whose certificates are trusted.

The key is read from the environment, sent to that server only, and stored nowhere. Servers that Redline starts run
other people's code: they never get it.
"""

from __future__ import annotations

import os
import ssl

from redline.errors import UsageError

API_KEY_VARIABLE = "REDLINE_API_KEY"
REDACTED = "[API key]"


def api_key() -> str | None:
    """The key, without blanks around it; None if the variable is unset or empty.

    Raises UsageError, which does not repeat it, if it cannot stand in an HTTP header.
    """
    key = os.environ.get(API_KEY_VARIABLE, "").strip()
    if not key:
        return None
    if not all("!" <= character <= "~" for character in key):
        raise UsageError(
            f"${API_KEY_VARIABLE} is no API key",
            expected="printable ASCII without blanks",
            found="a character that cannot stand in an HTTP header",
            next_step="export the key alone, without quotes or line breaks",
        )
    return key


def headers(key: str | None) -> dict[str, str]:
    """The header that carries the key, if there is one."""
    return {"authorization": f"Bearer {key}"} if key else {}


def redacted(text: str, key: str | None) -> str:
    """What a server said, should it repeat the key."""
    return text.replace(key, REDACTED) if key else text


def trust() -> ssl.SSLContext:
    """The certificates that are trusted: the system's, or those that $SSL_CERT_FILE names."""
    return ssl.create_default_context()

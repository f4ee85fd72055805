"""API keys: how they are written in API_KEYS, kept, compared and made.

    API_KEYS=alice:sha256:9f86d0…,batch:a-secret-of-at-least-16-characters

Several entries, parted by commas or spaces, each `name:sha256:HEX` or `name:secret`. Names go into
logs and metrics; two entries may share one, so that a key can be replaced without a gap.

    python -m api.keys new NAME    makes a key: prints the secret, and the entry that lets it in
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import re
import secrets
import sys
from dataclasses import dataclass

from api.errors import AuthenticationError, ConfigurationError

ANONYMOUS = "anonymous"
"""The name of every caller where no key is asked for."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECRET = re.compile(r"[A-Za-z0-9._~-]{16,256}")
"""What may stand in each of the three places that carry a key: RFC 6750's b64token, a header's
value, and RFC 6455's subprotocol, which is an RFC 7230 token."""
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")

_NEEDED = "An API key is needed, as Authorization: Bearer KEY or as X-API-Key: KEY"


@dataclass(frozen=True)
class ApiKey:
    """A key's name and the sha256 of its secret; the secret itself isn't kept.

    A plain hash is enough: a made key has 256 random bits, which nobody finds by trying.
    """

    name: str
    digest: bytes


class KeyRing:
    """The keys that are let in; without any, everybody is."""

    def __init__(self, keys: tuple[ApiKey, ...]) -> None:
        self._keys = keys

    def __bool__(self) -> bool:
        return bool(self._keys)

    def name_of(self, secret: str | None) -> str:
        """Who calls. Takes the same time for every wrong secret.

        Raises:
            AuthenticationError: no secret, or one that isn't known.
        """
        if not self._keys:
            return ANONYMOUS
        if not secret:
            raise AuthenticationError(_NEEDED)
        digest = _digest(secret)
        found = [key.name for key in self._keys if hmac.compare_digest(key.digest, digest)]
        if not found:
            raise AuthenticationError("The API key isn't known")
        return found[0]


def parse(text: str) -> KeyRing:
    """The keys of API_KEYS.

    Raises:
        ConfigurationError: an entry is wrong; the message counts it and never shows it.
    """
    entries = re.split(r"[,\s]+", text.strip(", \t\r\n"))
    return KeyRing(tuple(_parse(entry, n) for n, entry in enumerate(entries, 1) if entry))


def _parse(entry: str, number: int) -> ApiKey:
    name, colon, secret = entry.partition(":")
    if not colon or not _NAME.fullmatch(name):  # without a colon it may be a secret
        raise ConfigurationError(
            f"API_KEYS: entry {number} must be NAME:SECRET or NAME:sha256:HEX, "
            "with letters, digits and ._- in the name"
        )
    if secret.startswith("sha256:"):
        hexadecimal = secret.removeprefix("sha256:")
        if not _SHA256.fullmatch(hexadecimal):
            raise ConfigurationError(f"API_KEYS: the sha256 of '{name}' must have 64 hex digits")
        return ApiKey(name, bytes.fromhex(hexadecimal))
    if not _SECRET.fullmatch(secret):
        raise ConfigurationError(
            f"API_KEYS: the secret of '{name}' must have 16 to 256 letters, digits and ._~-; "
            "make a key with: python -m api.keys new NAME"
        )
    return ApiKey(name, _digest(secret))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def main() -> None:
    """The command that makes keys; it writes nothing down."""
    parser = argparse.ArgumentParser(prog="python -m api.keys", description="Make API keys.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    new = commands.add_parser("new", help="make a key")
    new.add_argument("name", metavar="NAME", help="goes into logs and metrics")
    name = parser.parse_args().name
    if not _NAME.fullmatch(name):
        sys.exit("NAME must have 1 to 64 letters, digits and ._-")
    secret = f"va_{secrets.token_urlsafe(32)}"
    print(f"The key, shown this once:  {secret}")
    print(f"Add to API_KEYS:           {name}:sha256:{_digest(secret).hex()}")


if __name__ == "__main__":
    main()

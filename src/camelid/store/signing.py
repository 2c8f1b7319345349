"""Who asks, for Ollama's registry: requests for a token are signed with the ed25519 key that Ollama made for its user.

The key stays where Ollama keeps it and is only read. A signature covers the whole URL with the time and a random number
in it, so it is good for one request.

Source: Ollama's auth package, version 0.33.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from camelid.errors import RegistryError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_FILE = "~/.ollama/id_ed25519"
HINT = (
    f"sign in with Ollama, or make a key (ssh-keygen -t ed25519 -N '' -f {KEY_FILE}) and add its .pub file at "
    "ollama.com/settings/keys"
)
_NONCE_BYTES = 16
_EMPTY = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()  # the digest of a request without a body


@dataclass(frozen=True)
class Signer:
    """A key, and its public half as OpenSSH writes it."""

    key: Ed25519PrivateKey
    public: str

    def sign(self, method: str, url: str) -> str:
        """Return the Authorization of a request without a body."""
        signature = self.key.sign(f"{method},{url},{_EMPTY}".encode())
        return f"{self.public}:{base64.b64encode(signature).decode()}"


def find_signer() -> Signer | None:
    """Return the signer of Ollama's key on this machine, if there is one. Raises RegistryError for one that is none."""
    path = Path(KEY_FILE).expanduser()
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RegistryError(f"{path} cannot be read: {error.strerror}") from error
    return _signer(path, content)


def signed_url(url: str, values: dict[str, str]) -> str:
    """Return the URL of a request for a token, which nobody can use again."""
    nonce = base64.urlsafe_b64encode(os.urandom(_NONCE_BYTES)).rstrip(b"=").decode()
    return f"{url}?{urlencode({**values, 'ts': str(int(time.time())), 'nonce': nonce})}"


def _signer(path: Path, content: bytes) -> Signer:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        key = serialization.load_ssh_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        said = "it is no key of OpenSSH, or has a passphrase"
        raise RegistryError(f"{path} cannot be used: {said}", hint=HINT) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise RegistryError(f"{path} cannot be used: it is no ed25519 key", hint=HINT)
    written = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return Signer(key, written.split()[1].decode())

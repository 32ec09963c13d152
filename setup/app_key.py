"""A GitHub App's private key, and the JWTs that it signs. The standard library alone: what an RSA signature needs of
its key is two numbers (RFC 8017, RSASSA-PKCS1-v1_5), and GitHub hands keys out as PKCS#1 in PEM."""

import base64
import hashlib
import json
import re
import secrets
import time

# SHA-256's name in DER, as it stands before the hash (RFC 8017, section 9.2, note 1).
SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")
SEQUENCE, INTEGER, OCTETS = 0x30, 0x02, 0x04


class NoKey(ValueError):
    """It is no private key; the message says what it is instead, and holds nothing of it."""


class AppKey:
    """Signs for one App. Neither printed nor pickled."""

    def __init__(self, pem):
        label = re.search(r"-----BEGIN ([A-Z0-9 ]+)-----(.+?)-----END \1-----", pem.replace("\\n", "\n"), re.DOTALL)
        if not label:
            raise NoKey("it is no PEM file: it should begin with -----BEGIN RSA PRIVATE KEY-----")
        kind, body = label.groups()
        if kind not in ("RSA PRIVATE KEY", "PRIVATE KEY"):
            raise NoKey(f"it is a {kind.lower()}, and should be the App's private key")
        try:
            numbers = _integers(base64.b64decode("".join(body.split()), validate=True))
        except (ValueError, IndexError):
            raise NoKey("it is damaged: download a new one from the App's settings") from None
        self._modulus, self._exponent = numbers[1], numbers[3]

    def __repr__(self):
        return "AppKey"

    def __reduce__(self):
        raise TypeError("a key stays where it is")

    def jwt(self, app_id, now=None):
        """"iat: 60 seconds in the past", "exp: no more than 10 minutes" (GitHub, "Generating a JSON Web Token")."""
        now = int(now or time.time())
        claims = {"iat": now - 60, "exp": now + 540, "iss": str(app_id), "jti": secrets.token_hex(8)}
        text = ".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
        return f"{text}.{_base64(self._sign(text.encode()))}"

    def _sign(self, message):
        length = (self._modulus.bit_length() + 7) // 8
        digest = SHA256 + hashlib.sha256(message).digest()
        padded = b"\x00\x01" + b"\xff" * (length - len(digest) - 3) + b"\x00" + digest
        return pow(int.from_bytes(padded), self._exponent, self._modulus).to_bytes(length)


def _base64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _read(data, at, wanted):
    """One DER value: its content, and where the next begins."""
    if data[at] != wanted:
        raise ValueError("another type")
    length, at = data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, at = int.from_bytes(data[at:at + size]), at + size
    if at + length > len(data):
        raise ValueError("cut off")
    return data[at:at + length], at + length


def _integers(der):
    """version, n, e, d, ... of PKCS#1; PKCS#8 has that inside."""
    inside, _ = _read(der, 0, SEQUENCE)
    _, after_version = _read(inside, 0, INTEGER)
    if inside[after_version] == SEQUENCE:
        _, after_algorithm = _read(inside, after_version, SEQUENCE)
        return _integers(_read(inside, after_algorithm, OCTETS)[0])
    numbers, at = [], 0
    while at < len(inside):
        content, at = _read(inside, at, INTEGER)
        numbers.append(int.from_bytes(content))
    return numbers

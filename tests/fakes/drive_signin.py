"""Google's sign-in, as far as a client of Drive meets it: /auth (the consent page's stand-in) and /token.

Access tokens live `life` seconds, or until `expire()`. `revoke()` makes every refresh `invalid_grant`, as when
somebody withdrew the consent or the seven days of an app "in testing" are over.
"""

import base64
import binascii
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlencode

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from .drive_faults import Answer, said

JWT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
GOOGLES = "https://oauth2.googleapis.com/token"


class Denied(Exception):
    """An error of OAuth (RFC 6749 5.2)."""

    def __init__(self, error: str, text: str, status: int = 400) -> None:
        self.error, self.text, self.status = error, text, status
        super().__init__(error)

    def answer(self) -> Answer:
        return said({"error": self.error, "error_description": self.text}, self.status)


class SignIn:
    """`consent` is "" for yes, or the error with which the consent page sends back, as "access_denied"."""

    def __init__(self) -> None:
        self.client_id, self.client_secret = "x", "y"
        self.refresh_tokens = {"R"}
        self.consent = ""
        self.life = 3600.0
        self.refreshes = 0  # answered grants of refresh_token
        self.revoked = False
        self.accepted: dict[str, float] = {}  # access token -> until when
        self.scopes: dict[str, str] = {}  # access token -> what it was given for
        self.subjects: list[str] = []  # whom service accounts asked to stand for; "" for themselves
        self._codes: dict[str, dict[str, str]] = {}
        self._accounts: dict[str, rsa.RSAPublicKey] = {}

    # ── by hand ──

    def token(self, life: float | None = None) -> str:
        """A fresh access token, without asking /token for it."""
        made = "ya29." + secrets.token_urlsafe(24)
        self.accepted[made] = time.monotonic() + (self.life if life is None else life)
        return made

    def expire(self) -> None:
        """Every access token given so far is void from now."""
        self.accepted.clear()

    def revoke(self) -> None:
        """From now on no refresh token is good."""
        self.expire()
        self.revoked = True

    def knows(self, header: str) -> bool:
        kind, _, token = header.partition(" ")
        return kind.lower() == "bearer" and self.accepted.get(token, 0.0) > time.monotonic()

    def service_account(self, token_uri: str) -> dict[str, str]:
        """A new service account, as the file that Google gives for it."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        email = f"robot-{len(self._accounts) + 1}@project.iam.gserviceaccount.com"
        self._accounts[email] = key.public_key()
        plain, pem, pkcs8 = serialization.NoEncryption(), serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": secrets.token_hex(20),
            "private_key": key.private_bytes(pem, pkcs8, plain).decode(),
            "client_email": email,
            "client_id": "100000000000000000001",
            "token_uri": token_uri,
        }

    # ── /auth ──

    def asked(self, query: Mapping[str, str]) -> Answer:
        """Send the browser back with a code, or with the error that `consent` says."""
        back = query.get("redirect_uri", "")
        if query.get("client_id") != self.client_id or not back.startswith(("http://", "https://")):
            return said({"error": "invalid_request"}, 400)
        if query.get("response_type") != "code" or not query.get("scope"):
            return said({"error": "invalid_request"}, 400)
        more = {"state": query["state"]} if "state" in query else {}
        if self.consent:
            more["error"] = self.consent
        else:
            more["code"] = "4/" + secrets.token_urlsafe(16)
            self._codes[more["code"]] = dict(query)
            more["scope"] = query["scope"]
        return Answer(302, b"", {"Location": back + ("&" if "?" in back else "?") + urlencode(more)})

    # ── /token ──

    def granted(self, form: Mapping[str, str], authorization: str, uri: str) -> Answer:
        try:
            return said(self._granted(form, authorization, uri))
        except Denied as denied:
            return denied.answer()

    def _granted(self, form: Mapping[str, str], authorization: str, uri: str) -> dict[str, Any]:
        kind = form.get("grant_type")
        if kind == JWT:
            return self._given(self._sworn(form.get("assertion", ""), {uri, GOOGLES}))
        if kind not in ("authorization_code", "refresh_token"):
            raise Denied("unsupported_grant_type", f"Invalid grant_type: {kind}")
        self._client(form, authorization)
        if kind == "authorization_code":
            scope = self._exchanged(form)
            made = "1//" + secrets.token_urlsafe(24)
            self.refresh_tokens.add(made)
            return {**self._given(scope), "refresh_token": made}
        if self.revoked or form.get("refresh_token") not in self.refresh_tokens:
            raise Denied("invalid_grant", "Token has been expired or revoked.")
        self.refreshes += 1
        return self._given("https://www.googleapis.com/auth/drive")

    def _given(self, scope: str) -> dict[str, Any]:
        token = self.token()
        self.scopes[token] = scope
        return {"access_token": token, "expires_in": int(self.life), "scope": scope, "token_type": "Bearer"}

    def _client(self, form: Mapping[str, str], authorization: str) -> None:
        name, secret = form.get("client_id", ""), form.get("client_secret", "")
        if authorization.startswith("Basic "):
            pair = base64.b64decode(authorization[6:]).decode()
            name, _, secret = (unquote(part) for part in pair.partition(":"))
        if (name, secret) != (self.client_id, self.client_secret):
            raise Denied("invalid_client", "The OAuth client was not found.", 401)

    def _exchanged(self, form: Mapping[str, str]) -> str:
        """What a code was given for. A code is good once, for who asked for it (PKCE, RFC 7636)."""
        asked = self._codes.pop(form.get("code", ""), None)
        if asked is None:
            raise Denied("invalid_grant", "Malformed auth code.")
        if form.get("redirect_uri") != asked["redirect_uri"]:
            raise Denied("redirect_uri_mismatch", "Bad Request")
        verifier = form.get("code_verifier", "")
        if "code_challenge" in asked:
            shown = verifier
            if asked.get("code_challenge_method", "plain") == "S256":
                shown = _unpadded(hashlib.sha256(verifier.encode()).digest())
            if not 43 <= len(verifier) <= 128 or shown != asked["code_challenge"]:
                raise Denied("invalid_grant", "Invalid code verifier.")
        return asked["scope"]

    def _sworn(self, assertion: str, audiences: set[str]) -> str:
        """The scope that a service account's signed claim asks for (RFC 7523)."""
        try:
            signed, _, signature = assertion.rpartition(".")
            header, claims = (json.loads(_bytes(part)) for part in signed.split("."))
            key = self._accounts[claims["iss"]]
            assert header["alg"] == "RS256"
            key.verify(_bytes(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (ValueError, KeyError, AssertionError, InvalidSignature, binascii.Error) as error:
            raise Denied("invalid_grant", "Invalid JWT Signature.") from error
        now = time.time()
        if claims.get("aud") not in audiences:
            raise Denied("invalid_grant", "Invalid JWT: Failed audience check.")
        if not (now - 3700 < claims["iat"] <= now + 300 and now < claims["exp"] <= claims["iat"] + 3600):
            raise Denied("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes).")
        if self.revoked:
            raise Denied("invalid_grant", "Invalid grant: account not found")
        if not claims.get("scope"):
            raise Denied("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        self.subjects.append(claims.get("sub", ""))
        return str(claims["scope"])


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

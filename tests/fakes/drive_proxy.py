"""Google's own names in front of a fake Drive, for clients whose addresses cannot be changed: a proxy and a CA.

async with fronted(fake, folder) as front:
    rclone --config <a file of front.rclone_config()> --http-proxy {front.proxy} --ca-cert {front.ca} lsl g:
"""

import ipaddress
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .gdrive import FakeDrive
from .proxies import HttpProxy

NAMES = ("www.googleapis.com", "oauth2.googleapis.com", "accounts.google.com", "docs.google.com")
TOKEN = {"access_token": "old", "token_type": "Bearer", "refresh_token": "R", "expiry": "2020-01-01T00:00:00Z"}


@dataclass(frozen=True, slots=True)
class Front:
    """`proxy`: the URL of the CONNECT proxy. `ca`: the certificate to trust. `port`: of the fake, over TLS."""

    fake: FakeDrive
    proxy: str
    ca: Path
    port: int

    def rclone_config(self, name: str = "g", **options: str) -> str:
        """A section of rclone's configuration that signs in with the fake's client and refresh token."""
        signin = self.fake.signin
        usual = {"type": "drive", "client_id": signin.client_id, "client_secret": signin.client_secret}
        section = usual | {"scope": "drive", "token": json.dumps(TOKEN)} | options
        return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in section.items())


@asynccontextmanager
async def fronted(fake: FakeDrive, folder: Path) -> AsyncIterator[Front]:
    """`fake` under Google's names, behind a proxy; its certificates are written into `folder`."""
    ca, chain = certified(folder)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain)
    port = await fake.listen(tls=tls)
    async with HttpProxy(hosts={f"{name}:443": port for name in NAMES}) as proxy:
        yield Front(fake, proxy.url(), ca, port)


def certified(folder: Path) -> tuple[Path, Path]:
    """A new CA, and a leaf of it for Google's names and 127.0.0.1: its certificate, and the leaf with its key."""
    root_key, root_name = ec.generate_private_key(ec.SECP256R1()), _name("fake drive: CA")
    authority = x509.BasicConstraints(ca=True, path_length=0)
    root = _begun(root_name, root_name, root_key, root_key, authority).sign(root_key, hashes.SHA256())
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName(name) for name in NAMES]
    here = x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))
    leaf = (
        _begun(_name("fake drive"), root_name, key, root_key, x509.BasicConstraints(ca=False, path_length=None))
        .add_extension(x509.SubjectAlternativeName([*names, here]), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    ca, chain = folder / "ca.pem", folder / "leaf.pem"
    ca.write_bytes(root.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    chain.write_bytes(leaf.public_bytes(pem) + private)
    return ca, chain


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    constraints: x509.BasicConstraints,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=constraints.ca,
        crl_sign=constraints.ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(constraints, critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

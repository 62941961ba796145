"""Keys, certificates and access tokens of a run.

Tokens are kept below the work directory with their expiry, so that a repeated run need not sign them again. The keys are
made for the benchmark on this machine and guard nothing.
"""

import base64
import datetime
import ipaddress
import json
import multiprocessing
import os
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from .claims import AUDIENCE, ISSUER, SCOPE

LIFETIME = 12 * 3600
# A kept token must outlive the run.
MARGIN = 2 * 3600
_GENERATORS = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


def _b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _number(value, size=None):
    return _b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big")).decode()


def _sign(key, algorithm, data):
    if algorithm == "RS256":
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    if algorithm == "ES256":
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return key.sign(data)


def make_token(key, algorithm, number=0, **changes):
    """One access token after RFC 9068; `changes` replaces claims, or removes those that are None."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "sub": f"user-{number:07}",
        "aud": AUDIENCE,
        "exp": now + LIFETIME,
        "iat": now,
        "jti": os.urandom(8).hex(),
        "client_id": "bench",
        "scope": f"{SCOPE} orders:list",
        "tenant": "acme",
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    header = {"alg": algorithm, "typ": "at+jwt", "kid": algorithm.lower()}
    data = b".".join(_b64(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    return (data + b"." + _b64(_sign(key, algorithm, data))).decode()


def _make_share(arguments):
    pem, algorithm, start, count = arguments
    key = serialization.load_pem_private_key(pem, None)
    return "".join(make_token(key, algorithm, number) + "\n" for number in range(start, start + count))


class Keys:
    """The keys of the run: one for each algorithm, and a certificate."""

    def __init__(self, directory):
        self.directory = directory / "keys"
        # Apart from the keys, whose directory gateways watch.
        self.tokens = directory / "tokens"
        for made in (self.directory, self.tokens):
            made.mkdir(parents=True, exist_ok=True)
        self.keys = {}
        for algorithm, generate in _GENERATORS.items():
            path = self.directory / f"{algorithm}.pem"
            if not path.exists():
                self._write(path, generate())
            self.keys[algorithm] = serialization.load_pem_private_key(path.read_bytes(), None)
            self.public(algorithm).write_bytes(self.keys[algorithm].public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
        self.jwks = self.directory / "jwks.json"
        self.jwks.write_text(json.dumps({"keys": self._jwks()}))
        self.certificate, self.certificate_key = self._make_certificate()

    def _write(self, path, key):
        path.touch(mode=0o600)
        path.write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))

    def public(self, algorithm):
        """The file with the public key."""
        return self.directory / f"{algorithm}.pub.pem"

    def _jwks(self):
        rsa_numbers = self.keys["RS256"].public_key().public_numbers()
        ec_numbers = self.keys["ES256"].public_key().public_numbers()
        raw = self.keys["EdDSA"].public_key().public_bytes_raw()
        return [
            {"kty": "RSA", "kid": "rs256", "alg": "RS256", "use": "sig", "n": _number(rsa_numbers.n),
             "e": _number(rsa_numbers.e)},
            {"kty": "EC", "kid": "es256", "alg": "ES256", "use": "sig", "crv": "P-256",
             "x": _number(ec_numbers.x, 32), "y": _number(ec_numbers.y, 32)},
            {"kty": "OKP", "kid": "eddsa", "alg": "EdDSA", "use": "sig", "crv": "Ed25519", "x": _b64(raw).decode()},
        ]

    def _make_certificate(self):
        """A certificate for loopback with a key on P-256, made anew for each run."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.timezone.utc)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        built = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=7))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(key, hashes.SHA256())
        )
        certificate, path = self.directory / "server.crt", self.directory / "server.key"
        certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
        self._write(path, key)
        return certificate, path

    def token(self, algorithm="RS256", **changes):
        """One new token."""
        return make_token(self.keys[algorithm], algorithm, **changes)

    def many(self, algorithm, count):
        """A file with that many different tokens, one a line; signed by all cores, and kept."""
        kept = sorted(self.tokens.glob(f"{algorithm}-{count}-*.tokens"))
        for path in kept:
            if int(path.stem.rsplit("-", 1)[1]) - MARGIN > time.time() and \
                    path.stat().st_mtime > (self.directory / f"{algorithm}.pem").stat().st_mtime:
                return path
            path.unlink()
        pem = (self.directory / f"{algorithm}.pem").read_bytes()
        step = max(1, min(2000, count // 8))
        shares = [(pem, algorithm, start, min(step, count - start)) for start in range(0, count, step)]
        path = self.tokens / f"{algorithm}-{count}-{int(time.time()) + LIFETIME}.tokens"
        partial = path.with_suffix(".partial")
        with multiprocessing.Pool() as pool, open(partial, "w") as file:
            for share in pool.imap(_make_share, shares):
                file.write(share)
        partial.rename(path)
        return path

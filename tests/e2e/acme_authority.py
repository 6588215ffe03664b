"""An authority that gives certificates by ACME (RFC 8555), with the challenge TLS-ALPN-01 (RFC 8737): a program of its own, run by the interpreter
of Synapse's environment, which has `cryptography`.

It checks what an authority checks: each request's nonce, address and signature; that the account's key stands behind the challenge; that who
asks answers for the name; that the certificate asked for is for that name. It connects to one port instead of 443.

    acme_authority.py FOLDER PORT CHALLENGE_PORT VALID_SECONDS
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import http.server
import json
import secrets
import socket
import ssl
import sys
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

ALPN = "acme-tls/1"
ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
ISSUER = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an authority by ACME")])


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Refused(Exception):
    """What an authority answers with a problem document."""


class Authority:
    """Accounts, one order at a time for each, and the key that signs."""

    def __init__(self, folder: Path, port: int, challenge_port: int, valid: int):
        self.base = f"https://localhost:{port}"
        self.challenge_port, self.valid = challenge_port, valid
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.nonces: set[str] = set()
        self.accounts: dict[str, dict] = {}
        self.orders: dict[str, dict] = {}
        now = datetime.datetime.now(datetime.timezone.utc)
        self.certificate = (
            x509.CertificateBuilder().subject_name(ISSUER).issuer_name(ISSUER).public_key(self.key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        (folder / "acme-ca.pem").write_bytes(self.pem(self.certificate))

    @staticmethod
    def pem(certificate: x509.Certificate) -> bytes:
        return certificate.public_bytes(serialization.Encoding.PEM)

    def nonce(self) -> str:
        self.nonces.add(made := secrets.token_urlsafe(16))
        return made

    # --- signed requests

    def opened(self, path: str, body: bytes) -> tuple[dict, str, dict | None]:
        """Account key, account and payload of a signed request."""
        outer = json.loads(body)
        head = json.loads(decoded(outer["protected"]))
        if head["nonce"] not in self.nonces:
            raise Refused("badNonce")
        self.nonces.remove(head["nonce"])
        if head["url"] != self.base + path or head["alg"] != "ES256":
            raise Refused("malformed")
        key = head["jwk"] if "jwk" in head else self.accounts.get(head["kid"])
        if key is None:
            raise Refused("accountDoesNotExist")
        numbers = ec.EllipticCurvePublicNumbers(*(int.from_bytes(decoded(key[part]), "big") for part in "xy"), ec.SECP256R1())
        signature = decoded(outer["signature"])
        halves = [int.from_bytes(half, "big") for half in (signature[:32], signature[32:])]
        try:
            numbers.public_key().verify(
                encode_dss_signature(*halves), f"{outer['protected']}.{outer['payload']}".encode(), ec.ECDSA(hashes.SHA256())
            )
        except InvalidSignature:
            raise Refused("unauthorized") from None
        return key, head.get("kid", ""), json.loads(decoded(outer["payload"])) if outer["payload"] else None

    def answer(self, path: str, body: bytes) -> tuple[int, dict | bytes, str | None]:
        """Status, body and location."""
        key, account, payload = self.opened(path, body)
        what, _, number = path.strip("/").partition("/")
        if what == "account":
            if payload.get("termsOfServiceAgreed") is not True:
                raise Refused("userActionRequired")
            location = f"{self.base}/accounts/{len(self.accounts)}"
            self.accounts[location] = key
            return 201, {"status": "valid", "contact": payload.get("contact", [])}, location
        if what == "order":
            number = str(len(self.orders))
            [identifier] = payload["identifiers"]
            self.orders[number] = {"account": account, "name": identifier["value"], "token": secrets.token_urlsafe(16), "valid": False}
            return 201, self.order(number), f"{self.base}/orders/{number}"
        order = self.orders[number]
        if order["account"] != account:
            raise Refused("unauthorized")
        if what == "challenge":
            self.validate(order, key)
        if what == "finalize":
            if not order["valid"]:
                raise Refused("orderNotReady")
            order["chain"] = self.sign(order["name"], x509.load_der_x509_csr(decoded(payload["csr"])))
        if what in ("authorization", "challenge"):
            return 200, self.authorization(number) if what == "authorization" else self.challenge(number), None
        if what == "certificate":
            return 200, order["chain"], None
        return 200, self.order(number), f"{self.base}/orders/{number}"

    def order(self, number: str) -> dict:
        order = self.orders[number]
        status = "valid" if "chain" in order else "ready" if order["valid"] else "pending"
        told = {
            "status": status, "identifiers": [{"type": "dns", "value": order["name"]}],
            "authorizations": [f"{self.base}/authorization/{number}"], "finalize": f"{self.base}/finalize/{number}",
        }
        return {**told, "certificate": f"{self.base}/certificate/{number}"} if status == "valid" else told

    def challenge(self, number: str) -> dict:
        order = self.orders[number]
        status = "valid" if order["valid"] else "pending"
        return {"type": "tls-alpn-01", "url": f"{self.base}/challenge/{number}", "token": order["token"], "status": status}

    def authorization(self, number: str) -> dict:
        order = self.orders[number]
        return {
            "status": "invalid" if order.get("failed") else "valid" if order["valid"] else "pending",
            "identifier": {"type": "dns", "value": order["name"]}, "challenges": [self.challenge(number)],
        }

    # --- what is checked and given

    def validate(self, order: dict, key: dict) -> None:
        """RFC 8737, section 3."""
        thumbprint = hashlib.sha256(json.dumps({part: key[part] for part in ("crv", "kty", "x", "y")}, separators=(",", ":")).encode())
        expected = hashlib.sha256(f"{order['token']}.{encoded(thumbprint.digest())}".encode()).digest()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols([ALPN])
        try:
            with socket.create_connection(("127.0.0.1", self.challenge_port), 5) as plain, \
                    context.wrap_socket(plain, server_hostname=order["name"]) as secure:
                shown = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True))
                names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
                identifier = shown.extensions.get_extension_for_oid(ACME_IDENTIFIER)
                # An OCTET STRING of 32 bytes.
                right = identifier.critical and identifier.value.value == b"\x04\x20" + expected
                order["valid"] = right and names == [order["name"]] and secure.selected_alpn_protocol() == ALPN
        except OSError as error:
            print(f"no answer to the challenge: {error}", flush=True)
        order["failed"] = not order["valid"]

    def sign(self, name: str, request: x509.CertificateSigningRequest) -> bytes:
        asked = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if not request.is_signature_valid or asked.get_values_for_type(x509.DNSName) != [name]:
            raise Refused("badCSR")
        now = datetime.datetime.now(datetime.timezone.utc)
        made = (
            x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(ISSUER).public_key(request.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + datetime.timedelta(seconds=self.valid))
            .add_extension(asked, critical=True).add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        return self.pem(made) + self.pem(self.certificate)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    authority: Authority

    def tell(self, status: int, body: dict | bytes, location: str | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        if self.command == "HEAD":
            # A library would wait for it.
            data = b""
        self.send_response(status)
        self.send_header("Content-Type", "application/pem-certificate-chain" if isinstance(body, bytes) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Replay-Nonce", self.authority.nonce())
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        base = self.authority.base
        self.tell(200, {"newNonce": f"{base}/nonce", "newAccount": f"{base}/account", "newOrder": f"{base}/order"})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            self.tell(*self.authority.answer(self.path, body))
        except Refused as refused:
            self.tell(400, {"type": f"urn:ietf:params:acme:error:{refused}"})


def main() -> None:
    folder, port, challenge_port, valid = Path(sys.argv[1]), *map(int, sys.argv[2:])
    Handler.authority = Authority(folder, port, challenge_port, valid)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print("ready", flush=True)
    server.serve_forever()


main()

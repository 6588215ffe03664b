"""A certificate authority and certificates of it, made by the interpreter of Synapse's environment, which can."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

from net import Host, dies_with_us

HERE = Path(__file__).resolve().parent

# Of names there is `localhost` alone: Synapse takes no wildcard below it.
LOCAL = {".": ["localhost", "127.0.0.1"]}
SCRIPT = """
import datetime, ipaddress, json, sys
from pathlib import Path
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

folder = Path(sys.argv[1])
now = datetime.datetime.now(datetime.timezone.utc)

def name(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

def begun(subject, issuer, key):
    return (x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30)))

def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)

def alternative(text):
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)

authority = ec.generate_private_key(ec.SECP256R1())
identifier = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())
trusted = (begun("a test's authority", "a test's authority", authority)
    .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
    .add_extension(identifier, critical=False).sign(authority, hashes.SHA256()))
for place, names in json.loads(sys.argv[2]).items():
    server = ec.generate_private_key(ec.SECP256R1())
    made = (begun(names[0], "a test's authority", server)
        .add_extension(x509.SubjectAlternativeName([alternative(text) for text in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(authority, hashes.SHA256()))
    (folder / place).mkdir(exist_ok=True)
    (folder / place / "ca.pem").write_bytes(pem(trusted))
    (folder / place / "cert.pem").write_bytes(pem(made))
    (folder / place / "key.pem").write_bytes(server.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()))
"""


def make(python: Path, folder: Path, names: dict[str, list[str]] = LOCAL) -> Path:
    """Writes ca.pem, cert.pem and key.pem for these names and addresses into each of these folders below one, and gives that."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([python, "-c", SCRIPT, folder, json.dumps(names)], check=True, capture_output=True, text=True)
    return folder


@contextlib.contextmanager
def authority(python: Path, host: Host, folder: Path, port: int, challenge_port: int, valid: int):
    """An authority that gives certificates by ACME (`acme_authority.py`), and the file that it wrote: whom to trust from then on."""
    process = subprocess.Popen(
        host.command(python, HERE / "acme_authority.py", folder, str(port), str(challenge_port), str(valid)),
        stdout=subprocess.PIPE, text=True, preexec_fn=dies_with_us,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield folder / "acme-ca.pem"
    finally:
        process.kill()
        process.wait(10)

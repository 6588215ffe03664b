"""A certificate authority and a certificate for `localhost` and `127.0.0.1`, made by the interpreter of Synapse's environment, which can."""

from __future__ import annotations

import subprocess
from pathlib import Path

# Of names there is `localhost` alone: Synapse takes no wildcard below it.
SCRIPT = """
import datetime, ipaddress, sys
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

def write(file, certificate):
    (folder / file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
identifier = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())
write("ca.pem", begun("a test's authority", "a test's authority", authority)
    .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
    .add_extension(identifier, critical=False).sign(authority, hashes.SHA256()))
write("cert.pem", begun("localhost", "a test's authority", server)
    .add_extension(x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    .sign(authority, hashes.SHA256()))
(folder / "key.pem").write_bytes(server.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption()))
"""


def make(python: Path, folder: Path) -> Path:
    """Writes ca.pem, cert.pem and key.pem into a folder, and gives it."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([python, "-c", SCRIPT, folder], check=True, capture_output=True, text=True)
    return folder

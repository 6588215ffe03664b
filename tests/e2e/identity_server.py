"""A real identity server (Sydent) as a process on a host, the HTTPS before it that it lacks, and a post office that keeps what it sends by e-mail."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import subprocess
import uuid
from pathlib import Path

import aiohttp

from client import Client
from federated import HERE, Federation
from net import dies_with_us
from node import Node, surroundings
from waiting import eventually

PLAIN_PORT, MAIL_PORT = 8190, 8191

CONFIG = """
[general]
server.name = {name}
pidfile.path = {folder}/sydent.pid
templates.path = {folder}/res
ip.whitelist = 127.0.0.0/8,::1
[db]
db.file = {folder}/sydent.db
[http]
clientapi.http.bind_address = 127.0.0.1
clientapi.http.port = {port}
client_http_base = https://{name}
[email]
email.from = Sydent <sydent@example.org>
email.smtphost = 127.0.0.1
email.smtpport = {mail}
email.hostname = localhost
email.ratelimit_sender.burst = 1000
[crypto]
ed25519.signingkey =
"""

TEMPLATES = {
    "invite_template.eml": "invited to %(room_id)s\ntoken=%(token)s\nkey=%(ephemeral_private_key)s\n",
    "verification_template.eml": "token=%(token)s\n",
}


class Sydent(Node):
    """One Sydent with SQLite. It answers without TLS at `port`; others know it as `server_name`."""

    def __init__(self, host, folder: Path, certificates: Path, server_name: str):
        self.server_name = server_name
        super().__init__(host, folder, name="sydent", port=PLAIN_PORT)
        # The tests' authority is one that it knows.
        self.environment = {"SSL_CERT_FILE": str(certificates / "ca.pem"), "SYDENT_CONF": str(self.config_file)}

    def configure(self, config: dict) -> None:
        self.config_file = self.folder / "sydent.conf"
        self.config_file.write_text(CONFIG.format(name=self.server_name, folder=self.folder, port=self.port, mail=MAIL_PORT))
        templates = self.folder / "res" / "matrix-org"
        templates.mkdir(parents=True, exist_ok=True)
        for name, text in TEMPLATES.items():
            (templates / name).write_text("To: %(to)s\nFrom: %(from)s\nSubject: a mail\n\n" + text)

    def spawn(self) -> None:
        venv = subprocess.run([HERE / "venv", "sydent"], check=True, capture_output=True, text=True).stdout.strip()
        with open(self.stdout_file, "ab") as out, open(self.stderr_file, "ab") as err:
            self.process = subprocess.Popen(
                self.host.command(Path(venv) / "bin" / "python", "-m", "sydent.sydent"),
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.folder, env={**surroundings(), **self.environment},
                start_new_session=True, preexec_fn=dies_with_us,
            )

    async def ready(self, deadline: float = 30) -> None:
        async with self.http() as http:
            async def answers():
                assert self.running, self.tail()
                async with http.get("/_matrix/identity/versions", timeout=aiohttp.ClientTimeout(total=2)) as response:
                    return response.status == 200
            await eventually(answers, deadline, "Sydent answers")


class IdentityServer:
    """The identity server as people see it: over HTTPS, with mail."""

    def __init__(self, federation: Federation, port: int):
        self.federation, self.name, self.port = federation, f"localhost:{port}", port
        self.sydent = Sydent(federation.host, federation.folder, federation.certificates, self.name)
        federation.nodes.append(self.sydent)
        self.mails: list[tuple[str, str]] = []
        self.trusted = ssl.create_default_context(cafile=str(federation.certificates / "ca.pem"))
        self.servers: list[asyncio.Server] = []

    async def start(self) -> None:
        certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        folder = self.federation.certificates
        certificate.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self.servers = [
            await asyncio.start_server(self._forward, sock=self._listening(self.port), ssl=certificate),
            await asyncio.start_server(self._post, sock=self._listening(MAIL_PORT)),
        ]
        await self.sydent.start()

    async def close(self) -> None:
        self.sydent.close()
        for server in self.servers:
            server.close()

    def _listening(self, port: int):
        made = self.federation.host.socket()
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", port))
        return made

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """TLS ends here; Sydent's own listener is plain."""
        inner = self.federation.host.socket()
        inner.setblocking(False)
        await asyncio.get_running_loop().sock_connect(inner, ("127.0.0.1", PLAIN_PORT))
        to_read, to_write = await asyncio.open_connection(sock=inner)

        async def carry(source, target):
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
                target.close()

        await asyncio.gather(carry(reader, to_write), carry(to_read, writer))

    async def _post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As much of SMTP as is needed to take a mail."""
        recipient = ""
        writer.write(b"220 post office\r\n")
        while line := (await reader.readline()).decode().strip():
            command = line.upper()
            if command.startswith("RCPT TO:"):
                recipient = re.search("<(.*)>", line)[1]
            if command == "DATA":
                writer.write(b"354 go on\r\n")
                text = (await reader.readuntil(b"\r\n.\r\n")).decode()
                self.mails.append((recipient, text.replace("\r\n", "\n")))
            writer.write(b"221 bye\r\n" if command == "QUIT" else b"250 good\r\n")
            if command == "QUIT":
                break
        writer.close()

    # --- what people do with it

    async def ask(self, token: str, method: str, path: str, body: dict | None = None) -> dict:
        """A request to the identity server."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with aiohttp.ClientSession(connector=self.federation.kith.connector(), headers=headers) as http:
            async with http.request(method, f"https://{self.name}/_matrix/identity/v2/{path}", json=body, ssl=self.trusted) as response:
                assert response.status == 200, await response.text()
                return await response.json()

    async def account(self, person: Client) -> str:
        """A token for the identity server, which it gives to who shows that of OpenID. It asks the person's server whose that is."""
        path = f"/_matrix/client/v3/user/{person.user_id}/openid/request_token"
        shown = await person.request("POST", path, {})
        return (await self.ask("", "POST", "account/register", shown))["token"]

    async def mail(self, address: str, holds: str) -> dict[str, str]:
        """Waits for a mail with a text in it, and gives the fields that the templates have."""
        def there():
            return next((text for to, text in self.mails if to == address and holds in text), None)
        text = await eventually(there, 30, f"a mail to {address} with {holds}")
        return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))

    async def bind(self, person: Client, token: str, address: str) -> None:
        """Proves that an address is the person's, by a mail, and has it bound. The identity server tells the person's server."""
        secret = uuid.uuid4().hex
        asked = {"client_secret": secret, "email": address, "send_attempt": 1}
        session = (await self.ask(token, "POST", "validate/email/requestToken", asked))["sid"]
        code = (await self.mail(address, "\n\ntoken="))["token"]
        shown = {"client_secret": secret, "sid": session, "token": code}
        assert (await self.ask(token, "POST", "validate/email/submitToken", shown))["success"]
        await self.ask(token, "POST", "3pid/bind", {"client_secret": secret, "sid": session, "mxid": person.user_id})


@contextlib.asynccontextmanager
async def identity_server(federation: Federation, port: int):
    """One that runs for a test."""
    made = IdentityServer(federation, port)
    await made.start()
    try:
        yield made
    finally:
        await made.close()

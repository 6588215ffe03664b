"""An internet without the rest of it: a name server and a web server, in a thread of their own, on a host of a test's network."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import struct
import threading
from pathlib import Path

from net import Host

TYPES = {"A": 1, "CNAME": 5, "AAAA": 28, "SRV": 33}
TRUNCATED, NO_SUCH_NAME = 0x0200, 3
# Short: a test changes what names lead to.
TTL = 1


def labels(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def data(kind: str, text: str) -> bytes:
    """A record's data from how zone files write it."""
    if kind in ("A", "AAAA"):
        return ipaddress.ip_address(text).packed
    *numbers, name = text.split()
    return b"".join(struct.pack(">H", int(number)) for number in numbers) + labels(name)


class Internet:
    """`zone`: lines of NAME TYPE DATA. `pages`: what lies at HOST/PATH; an `https` URL redirects. `long`: names whose answers do not fit into a
    UDP packet. Certificates are those in the folders with the names of hosts."""

    def __init__(self, host: Host, certificates: Path):
        self.host, self.certificates = host, certificates
        self.zone: list[str] = []
        self.pages: dict[str, str] = {}
        self.long: set[str] = set()
        # What was asked for.
        self.asked: list[str] = []
        self.asked_by_tcp: list[str] = []
        self.fetched: list[str] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.listen(), self.loop).result(10)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def serves(self, *hosts: Host) -> None:
        """Programs on these hosts ask this name server."""
        file = self.certificates / "resolv.conf"
        file.write_text(f"nameserver {self.host.ipv4}\n")
        for host in hosts:
            host.resolv_conf = file

    async def listen(self) -> None:
        context = self.context(self.host.ipv4)
        context.sni_callback = self.choose
        for port, serve, secure in ((53, self.names_by_tcp, None), (443, self.page, context)):
            listening = self.bound(socket.SOCK_STREAM, port)
            await asyncio.start_server(serve, sock=listening, ssl=secure)
        udp = self.bound(socket.SOCK_DGRAM, 53)
        self.loop.add_reader(udp, self.name_by_udp, udp)

    def bound(self, kind: int, port: int) -> socket.socket:
        made = self.host.socket(kind=kind)
        made.setblocking(False)
        made.bind((self.host.ipv4, port))
        return made

    # --- names

    def name_by_udp(self, udp: socket.socket) -> None:
        query, sender = udp.recvfrom(4096)
        udp.sendto(self.answer(query, by_tcp=False), sender)

    async def names_by_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                answer = self.answer(await reader.readexactly(size), by_tcp=True)
                writer.write(len(answer).to_bytes(2, "big") + answer)
        writer.close()

    def answer(self, query: bytes, by_tcp: bool) -> bytes:
        """RFC 1035, section 4, for one question."""
        number, flags = struct.unpack_from(">HH", query)
        end, parts = 12, []
        while size := query[end]:
            parts.append(query[end + 1:end + 1 + size].decode().lower())
            end += 1 + size
        name, question = ".".join(parts), query[12:end + 5]
        kinds = {number: kind for kind, number in TYPES.items()}
        kind = kinds.get(struct.unpack_from(">H", query, end + 1)[0], "other")
        self.asked.append(name)
        if by_tcp:
            self.asked_by_tcp.append(name)
        # A response with authority, and with what was desired.
        flags = 0x8480 | flags & 0x0100
        if name in self.long and not by_tcp:
            found, flags = [], flags | TRUNCATED
        else:
            found, exists = self.records(name, kind)
            flags |= 0 if exists else NO_SUCH_NAME
        return struct.pack(">HHHHHH", number, flags, 1, len(found), 0, 0) + question + b"".join(found)

    def records(self, name: str, kind: str) -> tuple[list[bytes], bool]:
        """The records to answer with, and whether the name has any."""
        found, exists = [], False
        for line in self.zone:
            owner, of_kind, text = line.split(maxsplit=2)
            if owner != name:
                continue
            exists = True
            if of_kind in (kind, "CNAME"):
                value = data(of_kind, text)
                found.append(labels(name) + struct.pack(">HHIH", TYPES[of_kind], 1, TTL, len(value)) + value)
            if of_kind == "CNAME" != kind:
                found += self.records(text, kind)[0]
        return found, exists

    # --- pages

    def context(self, name: str) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(self.certificates / name / "cert.pem", self.certificates / name / "key.pem")
        return made

    def choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        """The certificate for the name that a client asks for."""
        if not name or not (self.certificates / name).exists():
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = self.context(name)
        return None

    async def page(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            hosts = [line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("host:")]
            self.fetched.append(asked := hosts[0] + first.split()[1])
            page = self.pages.get(asked)
            status, more = "200 OK", "Content-Type: application/json"
            if page is None:
                status, page = "404 Not Found", ""
            elif page.startswith("https://"):
                status, more, page = "302 Found", f"Location: {page}", ""
            writer.write(f"HTTP/1.1 {status}\r\n{more}\r\nContent-Length: {len(page)}\r\nConnection: close\r\n\r\n{page}".encode())
            await writer.drain()
        writer.close()

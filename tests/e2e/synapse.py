"""A real Synapse as a process on a host: for the benchmarks beside kith, and to check the harness' own client half."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from net import dies_with_us
from node import Node

HERE = Path(__file__).resolve().parent

CONFIG = """
server_name: "{server_name}"
pid_file: {folder}/synapse.pid
listeners:
  - port: {port}
    type: http
    bind_addresses: ["127.0.0.1"]
    resources: [{{names: [client, federation]}}]
database: {{name: sqlite3, args: {{database: {folder}/homeserver.db}}}}
log_config: {folder}/log.yaml
media_store_path: {folder}/media
signing_key_path: {folder}/signing.key
macaroon_secret_key: "a"
form_secret: "b"
registration_shared_secret: "c"
enable_registration: true
enable_registration_without_verification: true
report_stats: false
trusted_key_servers: []
suppress_key_server_warning: true
caches: {{sync_response_cache_duration: 0}}
max_upload_size: 100M
rc_message: {{per_second: 100000, burst_count: 100000}}
rc_registration: {{per_second: 100000, burst_count: 100000}}
rc_login:
  address: {{per_second: 100000, burst_count: 100000}}
  account: {{per_second: 100000, burst_count: 100000}}
  failed_attempts: {{per_second: 100000, burst_count: 100000}}
rc_room_creation: {{per_second: 100000, burst_count: 100000}}
rc_presence: {{per_user: {{per_second: 100000, burst_count: 100000}}}}
rc_joins:
  local: {{per_second: 100000, burst_count: 100000}}
  remote: {{per_second: 100000, burst_count: 100000}}
rc_joins_per_room: {{per_second: 100000, burst_count: 100000}}
rc_invites:
  per_room: {{per_second: 100000, burst_count: 100000}}
  per_user: {{per_second: 100000, burst_count: 100000}}
  per_issuer: {{per_second: 100000, burst_count: 100000}}
"""

FEDERATION_LISTENER = """
  - port: {port}
    type: http
    tls: true
    bind_addresses: {addresses}
    resources: [{{names: [federation]}}]"""

FEDERATION_CONFIG = """
tls_certificate_path: {certificates}/cert.pem
tls_private_key_path: {certificates}/key.pem
federation_custom_ca_list: {roots}
ip_range_blacklist: []
federation_ip_range_blacklist: []
allow_public_rooms_over_federation: true
allow_public_rooms_without_auth: true
room_list_publication_rules: [{{action: allow}}]
rc_federation: {{window_size: 1000, sleep_limit: 100000, sleep_delay: 1, reject_limit: 100000, concurrent: 100}}
federation:
  client_timeout: 10s
  max_short_retry_delay: 1s
  max_short_retries: 2
  destination_min_retry_interval: 1s
  destination_retry_multiplier: 2
  destination_max_retry_interval: 2s
"""

LOG_CONFIG = """
version: 1
formatters: {plain: {format: '%(asctime)s %(levelname)s %(name)s %(message)s'}}
handlers: {console: {class: logging.StreamHandler, formatter: plain}}
root: {level: WARNING, handlers: [console]}
"""


class Synapse(Node):
    """One Synapse, one process, SQLite, with rate limits out of the way."""

    server_name = "synapse.test"

    def configure(self, config: dict) -> None:
        self.config_file = self.folder / "homeserver.yaml"
        self.config_file.write_text(CONFIG.format(server_name=self.server_name, folder=self.folder, port=self.port))
        (self.folder / "log.yaml").write_text(LOG_CONFIG)

    def spawn(self) -> None:
        python = self.python()
        if not (self.folder / "signing.key").exists():
            subprocess.run(
                [python, "-m", "synapse.app.homeserver", "-c", self.config_file, "--generate-keys"],
                check=True, capture_output=True, cwd=self.folder,
            )
        with open(self.stdout_file, "ab") as out, open(self.stderr_file, "ab") as err:
            self.process = subprocess.Popen(
                self.host.command(python, "-m", "synapse.app.homeserver", "-c", self.config_file),
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.folder, env={**os.environ, **self.environment},
                start_new_session=True, preexec_fn=dies_with_us,
            )

    @staticmethod
    def python() -> Path:
        """The interpreter of the environment that holds Synapse; made on first use."""
        venv = subprocess.run([HERE / "venv", "synapse"], check=True, capture_output=True, text=True).stdout.strip()
        return Path(venv) / "bin" / "python"


class FederatedSynapse(Synapse):
    """One that federates over HTTPS on this host as `localhost:PORT`, or by its address, with certificates of a test's authority.

    With `ports` it has another name, and listens there on all addresses of its host. It trusts further roots, and if there is a notary, asks
    that for the keys of others before these."""

    def __init__(
        self, host, folder: Path, certificates: Path, server_name: str, name: str = "synapse", port: int = 8018, notary: str | None = None,
        ports: tuple[int, ...] = (), roots: Sequence[Path] = (),
    ):
        self.roots = [str(root) for root in (certificates / "ca.pem", *roots)]
        self.server_name, self.notary = server_name, notary
        self.addresses = [host.ipv4, host.ipv6] if ports else ["127.0.0.1"]
        self.ports = ports or (int(server_name.rpartition(":")[2]),)
        self.certificates, self.federation_port = certificates, self.ports[0]
        super().__init__(host, folder, name=name, port=port)
        # Identity servers, and files that are kept elsewhere, are asked as web pages are: with the authorities of the system.
        self.environment = {"SSL_CERT_FILE": str(certificates / "ca.pem")}

    def configure(self, config: dict) -> None:
        super().configure(config)
        listeners = [FEDERATION_LISTENER.format(port=port, addresses=json.dumps(self.addresses)) for port in self.ports]
        more = "".join(listeners) + FEDERATION_CONFIG.format(certificates=self.certificates, roots=json.dumps(self.roots))
        whole = self.config_file.read_text()
        # Its listeners follow the one for clients.
        head, rest = whole.split("database:", 1)
        if self.notary:
            rest = rest.replace("trusted_key_servers: []", f'trusted_key_servers: [{{server_name: "{self.notary}"}}]')
        self.config_file.write_text(head.rstrip() + more + "database:" + rest)

"""A real Synapse as a process on a host: for the benchmarks beside kith, and to check the harness' own client half."""

from __future__ import annotations

import subprocess
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
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.folder, start_new_session=True, preexec_fn=dies_with_us,
            )

    @staticmethod
    def python() -> Path:
        """The interpreter of the environment that holds Synapse; made on first use."""
        venv = subprocess.run([HERE / "venv", "synapse"], check=True, capture_output=True, text=True).stdout.strip()
        return Path(venv) / "bin" / "python"

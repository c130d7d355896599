"""PgBouncer in transaction mode, and the distribution's own PostgreSQL: each in a folder of its own, on a free port."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from certificates import make_certificates
from live.database import Database
from live.running import free_port, wait_for

SERVER_CONNECTIONS = 3
"""So few that whoever keeps something on a connection is found out at once."""
UNPRIVILEGED = "postgres"
"""Whose the distribution's server is where root runs the campaign: it does not start as root."""

_CONFIGURATION = """\
[databases]
* = host={socket} port=5432
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = 300
auth_type = trust
auth_file = {folder}/users
auth_user = postgres
auth_query = SELECT usename, passwd FROM pg_shadow WHERE usename = $1
admin_users = postgres
logfile = {folder}/log
pidfile = {folder}/pid
server_idle_timeout = 5
server_login_retry = 1
"""


@dataclass
class Bouncer:
    """A PgBouncer in front of a PostgreSQL. Its configuration has no more than its documentation asks for."""

    folder: Path
    port: int
    user: str | None
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def share(self, user: str | None) -> None:
        """Gives the folder to the user as whom it runs."""
        self.user = user
        for path in (self.folder, *self.folder.iterdir()):
            shutil.chown(path, user or getpass.getuser())

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> None:
        path = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        self.process = subprocess.Popen([path, "-q", str(self.folder / "ini")], user=self.user, cwd="/")
        wait_for("PgBouncer", lambda: (self.folder / "pid").exists() and "process up" in self.log)

    def kill(self) -> None:
        """As a crash: every connection breaks."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        (self.folder / "pid").unlink(missing_ok=True)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()


@contextmanager
def bouncer(database: Database) -> Iterator[Bouncer]:
    folder = Path(tempfile.mkdtemp(prefix="fgbounce"))
    running = Bouncer(folder, free_port(), None)
    text = _CONFIGURATION.format(socket=database.folder, port=running.port, pool=SERVER_CONNECTIONS, folder=folder)
    (folder / "ini").write_text(text)
    (folder / "users").write_text('"postgres" ""\n')
    running.share(database.user)  # whose socket it may open
    running.start()
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Distribution:
    """A PostgreSQL as Debian ships it. `url` is an administrator's, over its Unix socket."""

    binaries: Path
    folder: Path
    port: int
    authority: Path
    """The certificate authority that has signed the server's certificate, which is for `localhost`."""

    @property
    def version(self) -> str:
        return self.binaries.parts[-2]

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.folder}&port={self.port}"


@contextmanager
def distribution_server() -> Iterator[Distribution]:
    """The newest PostgreSQL that the distribution has installed: TLS and passwords over TCP, trust over the socket."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: float(path.parts[-3]))
    if not found:
        raise AssertionError("no PostgreSQL of the distribution is installed: make system-deps")
    folder = Path(tempfile.mkdtemp(prefix="fgdeb"))
    made = Distribution(found[-1].parent, folder, free_port(), folder / "ca.pem")
    user = UNPRIVILEGED if os.geteuid() == 0 else None
    make_certificates(folder)
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, user or getpass.getuser())
    folder.chmod(0o755)
    data = folder / "data"

    def run(*command: str) -> None:
        # Not into pipes: pg_ctl's child would keep them open.
        with (folder / "output").open("w+") as output:
            done = subprocess.run(command, user=user, cwd="/", stdout=output, stderr=output, check=False)
            output.seek(0)
            if done.returncode:
                raise AssertionError(f"{' '.join(command)}: {output.read()}")

    run(str(made.binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8")
    (data / "pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
    options = (
        f"-h localhost -p {made.port} -k {folder} -c max_connections=200 -c fsync=off -c ssl=on "
        f"-c ssl_cert_file={folder}/server.pem -c ssl_key_file={folder}/server.key"
    )
    control = (str(made.binaries / "pg_ctl"), "-D", str(data), "-w")
    run(*control, "-o", options, "-l", str(folder / "log"), "start")
    try:
        yield made
    finally:
        run(*control, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)

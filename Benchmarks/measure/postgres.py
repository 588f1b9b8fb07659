"""A private PostgreSQL on a free port, and a question now and then."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path


class Postgres:
    def __init__(self, folder: Path):
        self.folder = folder
        self.data = folder / "data"
        self.password = secrets.token_hex(16)
        self.port = 0
        self.owner = None
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root.
            names = [entry.pw_name for entry in pwd.getpwall()]
            self.owner = pwd.getpwnam("postgres" if "postgres" in names else "nobody")

    @property
    def url(self) -> str:
        return f"postgresql://bench:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        programs = self._programs()
        self.folder.mkdir(mode=0o700)
        secret = self.folder / "password"
        secret.write_text(self.password)
        if self.owner:
            for path in (self.folder, secret):
                os.chown(path, self.owner.pw_uid, self.owner.pw_gid)
        self._run(
            programs / "initdb", "-D", self.data, "-U", "bench", f"--pwfile={secret}", "--auth=scram-sha-256",
            "--encoding=UTF8", "--locale=C", "--no-sync",
        )
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as settings:
            # Without autovacuum nothing but the measured sessions commits. Without fsync the disk is not measured.
            settings.write(
                "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\nautovacuum = off\n"
            )
        # Somebody may take the port between the look and the bind.
        for _ in range(5):
            self.port = free_port()
            log = self.folder / "log"
            started = self._run(
                programs / "pg_ctl", "start", "--silent", "-w", "-D", self.data, "-o", f"-p {self.port}", "-l", log,
                check=False,
            )
            if started == 0:
                return
        sys.exit(f"PostgreSQL does not start:\n{log.read_text()}")

    def stop(self) -> None:
        """An immediate shutdown (PostgreSQL, "Shutting Down the Server"). Needs no new process, on a machine that has run
        out of them either."""
        file = self.data / "postmaster.pid"
        try:
            pid = int(file.read_text().split()[0])
        except FileNotFoundError:
            return
        os.kill(pid, signal.SIGQUIT)
        for _ in range(100):
            if not file.exists():
                return
            time.sleep(0.1)

    def query(self, sql: str) -> str:
        return subprocess.run(
            ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql], env=self._client(), capture_output=True, text=True,
            check=True,
        ).stdout.strip()

    def session(self) -> "Psql":
        return Psql(self._client())

    def _client(self) -> dict:
        return {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "bench",
                "PGDATABASE": "postgres", "PGPASSWORD": self.password, "PGAPPNAME": "bench"}

    def _programs(self) -> Path:
        def version(path: Path) -> tuple:
            return tuple(int(part) for part in path.parent.parent.name.split(".") if part.isdigit())

        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=version)
        on_path = shutil.which("initdb")
        if not found and not on_path:
            sys.exit("no PostgreSQL server here: install Debian's `postgresql`, or put initdb into PATH")
        return (found[-1] if found else Path(on_path).resolve()).parent

    def _run(self, *command, check: bool = True) -> int:
        def become_owner() -> None:
            if self.owner:
                os.setgroups([])
                os.setgid(self.owner.pw_gid)
                os.setuid(self.owner.pw_uid)

        done = subprocess.run(
            [str(word) for word in command], preexec_fn=become_owner, cwd=self.folder, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, check=False,
        )
        if check and done.returncode != 0:
            sys.exit(f"failed with {done.returncode}: {' '.join(str(word) for word in command)}")
        return done.returncode


class Psql:
    """One session that stays open, so that asking does not count as connecting."""

    END = "--end--"

    def __init__(self, environment: dict):
        self.process = subprocess.Popen(
            ["psql", "-XAtq"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def query(self, sql: str) -> list:
        self.process.stdin.write(f"{sql}; SELECT '{self.END}';\n")
        self.process.stdin.flush()
        lines = []
        while (line := self.process.stdout.readline().rstrip("\n")) != self.END:
            if line == "" and self.process.poll() is not None:
                sys.exit("psql ended unexpectedly")
            lines.append(line)
        return lines

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

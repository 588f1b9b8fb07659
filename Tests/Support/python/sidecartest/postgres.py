"""A private PostgreSQL in a folder of its own, on a free port of 127.0.0.1, with a password nobody else knows.

    scripts/postgres start DIR    creates DIR, starts a server there, prints its URL (also in DIR/url)
    scripts/postgres stop DIR     stops it, at once; the data are of no worth
"""

import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from .machine import eventually, free_port, tree

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # A path in the folder may be too long for a socket's name.
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "off",
    "full_page_writes": "off",
    "log_line_prefix": "%m [%p] %a ",
}


class Postgres:
    """One server. `settings` are added to postgresql.conf, or replace what is there."""

    def __init__(self, folder, user="airflow", settings=None):
        self.folder = Path(folder).absolute()
        self.user, self.settings = user, {**SETTINGS, **(settings or {})}
        self.password = secrets.token_hex(16)
        self.port = 0

    @property
    def data(self):
        return self.folder / "data"

    @property
    def url(self):
        return f"postgresql://{self.user}:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self):
        """Makes the files and starts the server. Ends the program, with the reason, when that does not succeed."""
        programs = self._programs()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / "password").touch(mode=0o600)
        (self.folder / "password").write_text(self.password)
        for path in (self.folder, self.folder / "password"):
            if owner():
                os.chown(path, owner().pw_uid, owner().pw_gid)
        self._run(
            "initdb", programs / "initdb", "-D", self.data, "-U", self.user, f"--pwfile={self.folder / 'password'}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as file:
            for name, value in self.settings.items():
                file.write(f"{name} = '{value}'\n")
        # Somebody may take the port between the look and the bind.
        for attempt in range(5):
            self.port = free_port()
            if self._run(
                "pg_ctl", programs / "pg_ctl", "start", "--silent", "-w", "-D", self.data, "-o", f"-p {self.port}",
                "-l", self.folder / "postgres.log", fatal=False):
                (self.folder / "url").touch(mode=0o600)
                (self.folder / "url").write_text(f"{self.url}\n")
                return self
        sys.exit(f"postgres: PostgreSQL does not start: {self.folder}/postgres.log\n{(self.folder / 'postgres.log').read_text()}")

    def stop(self):
        stop(self.folder)

    def query(self, sql):
        """What a statement gives, unaligned, by a psql of its own."""
        return subprocess.run(
            ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql], env=self._client(), capture_output=True, text=True,
            check=True).stdout.strip()

    def session(self):
        return Psql(self._client())

    def _client(self):
        return {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": self.user, "PGDATABASE": "postgres",
                "PGPASSWORD": self.password, "PGAPPNAME": "bench"}

    @staticmethod
    def _programs():
        """The folder of the server's programs, newest first."""
        found = [path for pattern in ("lib/postgresql/*/bin", "pgsql-*/bin") for path in Path("/usr").glob(pattern)
                 if os.access(path / "initdb", os.X_OK) and os.access(path / "postgres", os.X_OK)]
        on_path = shutil.which("initdb")
        if not found and not on_path:
            sys.exit("postgres: no PostgreSQL server here: run scripts/install-deps postgres")
        return max(found, key=lambda path: [int(part) for part in re.findall(r"\d+", str(path))]) if found else Path(on_path).resolve().parent

    def _run(self, name, *command, fatal=True):
        def become_owner():
            os.umask(0o077)
            if owner():
                os.setgroups([])
                os.setgid(owner().pw_gid)
                os.setuid(owner().pw_uid)

        log = self.folder / f"{name}.log"
        with open(log, "wb") as output:
            done = subprocess.run(
                list(map(str, command)), preexec_fn=become_owner, cwd=self.folder, env={**os.environ, "HOME": str(self.folder)},
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
        if fatal and done.returncode != 0:
            sys.exit(f"postgres: {name} failed: {log}\n{log.read_text(errors='replace')}")
        return done.returncode == 0


def owner():
    """Whom the server runs as where we are root, since PostgreSQL refuses that; else None."""
    if os.geteuid() != 0:
        return None
    names = [entry.pw_name for entry in pwd.getpwall()]
    return pwd.getpwnam("postgres" if "postgres" in names else "nobody")


def stop(folder):
    """An immediate shutdown (PostgreSQL, "Shutting Down the Server"). Needs no new process, on a machine that has run out of
    them either. Nothing where no server is."""
    file = Path(folder) / "data/postmaster.pid"
    try:
        pid = int(file.read_text().split()[0])
    except (FileNotFoundError, IndexError):
        return
    processes = tree(pid)
    if not processes:
        return
    os.kill(pid, signal.SIGQUIT)
    eventually(30, lambda: not file.exists() or pid not in tree(pid))


class Psql:
    """One session that stays open, so that asking does not count as connecting."""

    END = "--end--"

    def __init__(self, environment):
        self.process = subprocess.Popen(
            ["psql", "-XAtq"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def query(self, sql):
        self.process.stdin.write(f"{sql}; SELECT '{self.END}';\n")
        self.process.stdin.flush()
        lines = []
        while (line := self.process.stdout.readline().rstrip("\n")) != self.END:
            if line == "" and self.process.poll() is not None:
                sys.exit("psql ended unexpectedly")
            lines.append(line)
        return lines

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=10)


def main(verb="", folder=None):
    if verb == "start" and folder:
        print(Postgres(folder).start().url)
    elif verb == "stop" and folder:
        stop(folder)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:3])

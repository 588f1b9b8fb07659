"""Sidecars around a child that says when it starts, and a stopwatch that sees processes die.

A start is a line in a FIFO, written by the child; a death is a pidfd that becomes readable. Both wake the same poll(2),
so neither is polled for and their order is the kernel's. Times are CLOCK_BOOTTIME.
"""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from sidecartest.machine import now

# The command, and a daemon in a session of its own that the command leaves behind when it ends.
CHILD = 'setsid sleep 100000 & echo "$SIDECAR_NODE $SIDECAR_EPOCH $$ $!" >"$BENCH_FIFO"; exec sleep 100000'


def seconds(duration: str) -> float:
    return float(duration[:-2]) / 1000 if duration.endswith("ms") else float(duration[:-1])


class Sidecar:
    """One `sidecar run`."""

    def __init__(self, group: "Group", node: str):
        self.group = group
        self.node = node
        self.ready_file = group.folder / f"{node}.ready"
        self.log = open(group.folder / f"{node}.log", "ab")
        self.process = subprocess.Popen(
            [group.binary, "run", "--lease", group.lease, "--node", node, "--ttl", group.ttl, "--ready-file",
             self.ready_file, "--", "sh", "-c", CHILD],
            env={**os.environ, "SIDECAR_DATABASE_URL": group.url, "BENCH_FIFO": str(group.fifo)},
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True,
        )

    @property
    def guard(self) -> int:
        """The keeper's only child that lives as long as itself."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        if not children:
            sys.exit(f"{self.node} has no guard any more:\n{Path(self.log.name).read_text()}")
        return int(children[0])

    def wait_ready(self) -> None:
        limit = now() + 60
        command = [self.group.binary, "probe", "ready", "--ready-file", self.ready_file]
        while subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode != 0:
            if now() > limit or self.process.poll() is not None:
                sys.exit(f"{self.node} does not get ready:\n{Path(self.log.name).read_text()}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=45)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Group:
    """The sidecars of one lease."""

    def __init__(self, binary: Path, url: str, folder: Path, lease: str, ttl: str):
        self.binary, self.url, self.lease, self.ttl = binary, url, lease, ttl
        self.folder = folder / lease
        self.folder.mkdir()
        self.fifo = self.folder / "starts"
        os.mkfifo(self.fifo)
        # Open for both, so that it has no end when no child writes.
        self.starts = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK)
        self.sidecars = {}

    def __enter__(self) -> "Group":
        return self

    def __exit__(self, *_) -> None:
        for sidecar in self.sidecars.values():
            sidecar.stop()
        os.close(self.starts)

    def start(self, node: str) -> Sidecar:
        self.sidecars[node] = Sidecar(self, node)
        return self.sidecars[node]

    def wait_for_start(self, dying: "Tree" = None) -> "Tree":
        """Waits for the next child to start, and notes when those of `dying` die."""
        poll = select.poll()
        poll.register(self.starts, select.POLLIN)
        for pidfd in dying.alive if dying else ():
            poll.register(pidfd, select.POLLIN)
        limit = now() + 60 + 3 * seconds(self.ttl)
        started = None
        while started is None or (dying and dying.alive):
            events = poll.poll(1000)
            moment = now()
            if moment > limit:
                logs = "\n".join(Path(sidecar.log.name).read_text() for sidecar in self.sidecars.values())
                sys.exit(f"no take-over within {limit:.0f} s:\n{logs}")
            for descriptor, _ in events:
                if descriptor == self.starts:
                    started = Tree(os.read(self.starts, 4096).decode(), moment)
                else:
                    poll.unregister(descriptor)
                    dying.died(descriptor, moment)
        return started


class Tree:
    """A child and its daemon."""

    def __init__(self, line: str, started_at: float):
        self.node, epoch, *pids = line.split()
        self.epoch = int(epoch)
        self.started_at = started_at
        self.alive = {os.pidfd_open(int(pid)): int(pid) for pid in pids}
        self.dead_at = None

    def died(self, pidfd: int, moment: float) -> None:
        os.close(pidfd)
        del self.alive[pidfd]
        self.dead_at = moment

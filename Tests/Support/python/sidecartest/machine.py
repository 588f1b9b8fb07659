"""This machine as the tests see it: the clock of processes, waiting with a deadline, process trees, who owns which connection.

    python3 -m sidecartest.machine tree PID          a process and all its descendants, one PID:START a line
    python3 -m sidecartest.machine start PID         its PID:START, while it runs
    python3 -m sidecartest.machine alive PID:START...    the PIDs of those that still run
"""

import os
import socket
import sys
import time


def now():
    """The time since boot, suspends included: what /proc gives the start of processes in."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def tries(seconds, interval=0.05):
    """Comes round for that long. A turn counts for half a second at most, so that time in which this machine ran nobody does not
    count; two minutes more than asked for are the end all the same."""
    left, last, end = seconds, now(), now() + seconds + 120
    while True:
        yield
        current = now()
        left, last = left - min(current - last, 0.5), current
        if left < 0 or current > end:
            return
        time.sleep(interval)


def eventually(seconds, condition, interval=0.05):
    """What `condition` gave when it was first true, or what it gave last."""
    result = None
    for _ in tries(seconds, interval):
        result = condition()
        if result:
            break
    return result


def free_port():
    """A TCP port of 127.0.0.1 that was free a moment ago. Not one that the kernel may give to a client meanwhile."""
    for _ in range(50):
        port = 20000 + int.from_bytes(os.urandom(2), "little") % 12000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    sys.exit("found no free TCP port on 127.0.0.1")


def _stat(pid):
    """(parent, start in ticks, state) of a process; None when there is none."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            # The command name, in parentheses, may hold blanks and parentheses of its own.
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[1]), int(fields[19]), fields[0]


def started(pid):
    """When a process started, on the clock of `now`; None when it is gone."""
    stat = _stat(pid)
    return stat and stat[1] / os.sysconf("SC_CLK_TCK")


def children(pid):
    """The living children of a process, oldest first."""
    found = []
    for each in filter(str.isdigit, os.listdir("/proc")):
        stat = _stat(each)
        if stat and stat[0] == pid and stat[2] not in "ZX":
            found.append((stat[1], int(each)))
    return [each for _, each in sorted(found)]


def tree(root):
    """A process and all its descendants, as {pid: start}: a PID comes back in time, with its start it does not."""
    stats = {int(each): _stat(each) for each in os.listdir("/proc") if each.isdigit()}
    stats = {pid: stat for pid, stat in stats.items() if stat}
    found = {}
    for pid in stats:
        up = pid
        while up in stats and up != root:
            up = stats[up][0]
        if up == root:
            found[pid] = stats[pid][1]
    return found


def alive(processes):
    """Those of {pid: start} that still run; a zombie does not."""
    return [pid for pid, start in processes.items() if (stat := _stat(pid)) and stat[1] == start and stat[2] not in "ZX"]


def environment(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return dict(line.split("=", 1) for line in file.read().decode(errors="replace").split("\0") if "=" in line)
    except (FileNotFoundError, ProcessLookupError):
        return {}


def command(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


def local_ports(processes):
    """The local TCP ports that the given processes hold open."""
    inodes = set()
    for pid in processes:
        try:
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if os.path.exists(table):
            with open(table) as file:
                for line in list(file)[1:]:
                    fields = line.split()
                    if fields[9] in inodes:
                        ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def main(verb, *names):
    if verb == "tree":
        found = tree(int(names[0]))
        print("".join(f"{pid}:{found[pid]}\n" for pid in alive(found)), end="")
    elif verb == "start":
        stat = _stat(names[0])
        if not stat or stat[2] in "ZX":
            sys.exit(1)
        print(f"{names[0]}:{stat[1]}")
    elif verb == "alive":
        print("".join(f"{pid}\n" for pid in alive({int(pid): int(start) for pid, start in (each.split(":") for each in names)})), end="")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])

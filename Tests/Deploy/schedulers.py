#!/usr/bin/env python3
"""Watches from the host, by one clock, which containers run the command that a sidecar guards, until it is told to stop.

    schedulers.py FILE NAME=CONTAINER_ID...      writes `TIME NAME PROCESSES` a line to FILE whenever that changes

and a line `TIME overlap NAME NAME` when two do at the same time: when what was seen alive in the one is still alive after
processes were seen in the other, so that the time that a look at /proc takes cannot make two out of one after the other.
"""

import os
import sys
import time


groups_of = {}


def look():
    """Every process: {pid: (parent, start, command, cgroups)}; no zombies."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:
                head, _, tail = file.read().rpartition(")")
            fields = tail.split()
            process = name, fields[19], head
            # Asked once for a process and its name: a container's first one is put into its cgroup before it becomes what it is.
            if process not in groups_of:
                with open(f"/proc/{name}/cgroup") as file:
                    groups_of[process] = file.read()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] not in "ZX":
            found[int(name)] = (int(fields[1]), int(fields[19]), head.partition("(")[2], groups_of[process])
    return found


def arguments(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def command(processes, container):
    """The processes of the wrapped command in a container: all below its first process that are not the sidecar's own. What
    `podman exec` brings in, such as health checks, is not below it."""
    inside = {pid for pid, each in processes.items() if container in each[3]}
    # The engine's monitor is in no container's cgroup, or in its parent's; the first process has a parent outside and is the oldest.
    first = min((pid for pid in inside if processes[pid][0] not in inside), key=lambda pid: processes[pid][1], default=None)
    if first is None:
        return {}
    # Before it becomes the sidecar it is a script that waits for the database, and what that calls: no command yet.
    if "when-migrated" in arguments(first) or processes[first][2].startswith(("runc", "crun", "conmon")):
        return {}
    below, more = {first}, True
    while more:
        more = {pid for pid in inside - below if processes[pid][0] in below}
        below |= more
    return {pid: processes[pid][1] for pid in below if not processes[pid][2].startswith("sidecar")}


def main():
    path, *names = sys.argv[1:]
    containers = dict(name.split("=", 1) for name in names)
    last, overlapping = {}, []
    with open(path, "a", buffering=1) as file:
        while True:
            processes = look()
            seen = {name: command(processes, container) for name, container in containers.items()}
            # After the look: what a line says to be gone was gone by then.
            now = time.time()
            running = [name for name in seen if seen[name]]
            if len(running) > 1:
                again = look()
                running = [name for name in running if any(again.get(pid, (0, 0))[1] == start for pid, start in seen[name].items())]
            if len(running) > 1 and running != overlapping:
                print(f"{now:.3f} overlap {' '.join(running)}", file=file)
            overlapping = running
            for name in seen:
                if len(seen[name]) != last.get(name):
                    last[name] = len(seen[name])
                    print(f"{now:.3f} {name} {last[name]}", file=file)
            time.sleep(0.05)


main()

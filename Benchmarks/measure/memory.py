"""What the two processes of a sidecar hold for themselves."""

import time
from pathlib import Path

from .sidecars import Group
from .text import table

TITLE = "Memory of two sidecars on one machine, 15 s after the start (smaps_rollup)"
NEEDS_POSTGRES = True


def run(binary, postgres, folder, options) -> None:
    rows = [["", "private", "shared with others", "resident"]]
    with Group(binary, postgres.url, folder, "memory", "2s") as group:
        leader = group.start("a")
        group.wait_for_start()
        standby = group.start("b")
        standby.wait_ready()
        time.sleep(15)
        for role, sidecar in [("leader", leader), ("standby", standby)]:
            for process, pid in [("keeper", sidecar.process.pid), ("guard", sidecar.guard)]:
                sizes = rollup(pid)
                private = sizes["Private_Clean"] + sizes["Private_Dirty"]
                cells = [private, sizes["Rss"] - private, sizes["Rss"]]
                rows.append([f"{role}'s {process}", *(f"{size / 1024:.1f} MiB" for size in cells)])
    print(table(rows))


def rollup(pid: int) -> dict:
    """Kibibytes by name."""
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        sizes[name.rstrip(":")] = int(value)
    return sizes

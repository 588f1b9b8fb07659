"""How long an exec probe takes, beside the shortest program there is."""

import statistics

from .sidecars import Group
from .spawn import compare
from .text import DISTRIBUTION, distribution, milliseconds, table

TITLE = "Probe: process start to exit, beside a running leader"
NEEDS_POSTGRES = True


def run(binary, postgres, folder, options) -> None:
    with Group(binary, postgres.url, folder, "probe", "2s") as group:
        leader = group.start("a")
        group.wait_for_start()
        leader.wait_ready()
        ask = [binary, "probe"]
        file = ["--ready-file", leader.ready_file]
        taken = compare(
            {
                "/bin/true": ["/bin/true"],
                "sidecar probe ready": [*ask, "ready", *file],
                "sidecar probe leader": [*ask, "leader", *file],
                "sidecar probe live": [*ask, "live", *file],
            },
            options.probes,
        )
    least = statistics.median(taken["/bin/true"])
    rows = [["", *DISTRIBUTION, "median / true"]]
    for name, values in taken.items():
        rows.append([name, *map(milliseconds, distribution(values)), f"{statistics.median(values) / least:.1f}"])
    print(table(rows))
    print(f"{options.probes} of each, in turns")

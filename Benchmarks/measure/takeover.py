"""How long nobody runs the child: after SIGTERM (a hand-over) and after SIGKILL of the keeper (a fail-over)."""

import random
import signal
import time

from sidecartest.machine import now

from .sidecars import Group, seconds
from .text import DISTRIBUTION, distribution, milliseconds, table

TITLE = "Take-overs: one leader, one standby; from the signal until the other's child has started"
NEEDS_POSTGRES = True

KINDS = [("hand-over, SIGTERM", signal.SIGTERM), ("fail-over, SIGKILL", signal.SIGKILL)]


def run(binary, postgres, folder, options) -> None:
    rows = [["", "TTL", "part", *DISTRIBUTION, "median / TTL", "max / TTL"]]
    overlaps = rounds = 0
    for ttl in options.ttls.split(","):
        for name, number in KINDS:
            lease = f"takeover-{number.name.lower()}-{ttl}"
            with Group(binary, postgres.url, folder, lease, ttl) as group:
                times = [one_round(group, number, first=index == 0) for index in range(options.rounds)]
            rounds += len(times)
            overlaps += sum(started < dead for dead, started in times)
            parts = {
                "signal to tree dead": [dead for dead, _ in times],
                "signal to next start": [started for _, started in times],
            }
            for part, values in parts.items():
                spread = distribution(values)
                whole = seconds(ttl)
                rows.append(
                    [name, ttl, part, *map(milliseconds, spread), f"{spread[1] / whole:.3f}", f"{spread[3] / whole:.3f}"]
                )
    print(table(rows))
    print(f"{options.rounds} rounds each; overlaps (a start before the last death of the tree before): {overlaps} of {rounds}")


def one_round(group: Group, number: signal.Signals, first: bool) -> tuple:
    """Ends the leader and returns, counted from the signal, when its tree was dead and when the next child started."""
    if first:
        group.start("a")
        group.tree = group.wait_for_start()
        group.start("b")
    for sidecar in group.sidecars.values():
        sidecar.wait_ready()
    # Anywhere between two renewals, and only after the standby has seen one.
    time.sleep(seconds(group.ttl) / 5 * (1 + random.random()))
    leader = group.sidecars[group.tree.node]
    signalled = now()
    leader.process.send_signal(number)
    dying = group.tree
    group.tree = group.wait_for_start(dying)
    assert group.tree.node != dying.node and group.tree.epoch > dying.epoch, "the other one must have taken over"
    leader.stop()
    group.start(leader.node)
    return dying.dead_at - signalled, group.tree.started_at - signalled

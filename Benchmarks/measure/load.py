"""What a lease costs the database, and the machine: statements, WAL and processor time, and what its sessions look like.

Every statement of a sidecar is a transaction of its own (autocommit), so commits in pg_stat_database count them. The
server has nothing else to do, and what this module's own session commits is measured without a sidecar and taken off.
"""

import os
import time

from .sidecars import Group
from .text import table

TITLE = "Database load, TTL 10s (the default)"
NEEDS_POSTGRES = True

COUNT = (
    "SELECT xact_commit, xact_rollback, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
    " FROM pg_stat_database WHERE datname = current_database()"
)
SAMPLE = """
    SELECT count(*), count(*) FILTER (WHERE state LIKE 'idle in transaction%'),
        count(*) FILTER (WHERE wait_event_type = 'Lock'), count(*) FILTER (WHERE state = 'idle' AND backend_xmin IS NOT NULL)
    FROM pg_stat_activity WHERE application_name LIKE 'sidecar-keeper:%'
"""
PAIRS = [(0, "no sidecar"), (1, "leader alone"), (2, "leader, 1 standby"), (5, "leader, 4 standbys")]


def run(binary, postgres, folder, options) -> None:
    rows = [["", "statements / s", "WAL bytes / s", "processor, all sidecars"]]
    rates = {}
    session = postgres.session()
    with Group(binary, postgres.url, folder, "load", "10s") as group:
        for count, name in PAIRS:
            while len(group.sidecars) < count:
                sidecar = group.start(f"n{len(group.sidecars)}")
                if len(group.sidecars) == 1:
                    group.wait_for_start()
                sidecar.wait_ready()
            time.sleep(12)  # A backend reports its counts after ten idle seconds at the latest.
            statements, wal, processor = watch(session, group, options.seconds)
            rates[count] = statements - rates.get(0, 0)
            rows.append([name, f"{rates[count]:.2f}", f"{wal:.0f}", f"{processor * 100:.2f} %"])
        samples = [list(map(int, session.query(SAMPLE)[0].split("|"))) for _ in pauses(100, 0.1)]
    session.close()
    print(table(rows))
    print(f"each standby adds {(rates[5] - rates[1]) / 4:.2f} statements / s; each row was watched for {options.seconds} s")
    total, in_transaction, on_lock, xmin = (sum(column) for column in zip(*samples))
    print(
        f"{len(samples)} looks at pg_stat_activity, {total} keepers' sessions seen: {in_transaction} idle in transaction, "
        f"{on_lock} waiting for a lock, {xmin} idle with an xmin"
    )


def watch(session, group: Group, duration: int) -> tuple:
    """Commits, WAL bytes and processor seconds, each a second."""
    began, before, ticks = time.monotonic(), counts(session), processor_ticks(group)
    time.sleep(duration)
    after, taken = counts(session), time.monotonic() - began
    used = (processor_ticks(group) - ticks) / os.sysconf("SC_CLK_TCK")
    statements = after[0] + after[1] - before[0] - before[1]
    return statements / taken, (after[2] - before[2]) / taken, used / taken


def counts(session) -> list:
    return list(map(int, session.query(COUNT)[0].split("|")))


def processor_ticks(group: Group) -> int:
    total = 0
    for sidecar in group.sidecars.values():
        for pid in (sidecar.process.pid, sidecar.guard):
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total


def pauses(count: int, pause: float):
    for index in range(count):
        yield index
        time.sleep(pause)

#!/usr/bin/env python3
"""Two sidecars around real Airflow schedulers on a real PostgreSQL: the leader is killed in the middle of a DAG run, later told
to go, and each time everything that Airflow's users would notice is checked. Run by Tests/Airflow/run, with Airflow's Python:

    failover.py VERSION FOLDER

Prints a line a check and at the end `N passed, N failed`; ends with 1 when one failed. Nothing here waits for a time to pass:
every wait is for a condition and has a deadline.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psycopg2

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Support/python"))
from sidecartest import ROOT
from sidecartest.machine import alive, children, command, environment, eventually, local_ports, now, started, tree, tries
from sidecartest.postgres import Postgres
from sidecartest.tally import Tally

SIDECAR = ROOT / ".build/sidecar"
LEASE = "airflow-scheduler"
# A leader gives up after four fifths of it: long enough that a machine that stands still for a while is not taken for a fault.
TTL = 15


class Missing(Exception):
    """Something that the rest of the scenario needs did not come in time."""


class Sidecar:
    """One `sidecar run` around `airflow scheduler`."""

    def __init__(self, place, node):
        self.place, self.node = place, node
        self.ready_file = place.folder / f"{node}.ready"
        log = open(place.folder / f"{node}.log", "ab")
        self.keeper = subprocess.Popen(
            [SIDECAR, "run", "--lease", LEASE, "--node", node, "--ttl", f"{TTL}s", "--ready-file", self.ready_file]
            + ["--", "airflow", "scheduler"],
            env=place.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self.seen, self.variables = {}, {}

    def guard(self):
        return next(iter(children(self.keeper.pid)), None)

    def child(self):
        """The wrapped command, the guard's first child; None while standing by."""
        guard = self.guard()
        child = next(iter(children(guard)), None) if guard else None
        # Read at once: Airflow gives its processes titles, which are written over the environment.
        if child and "SIDECAR_EPOCH" not in self.variables:
            self.variables = environment(child)
        return child

    def tree(self):
        """All processes below the guard, which outlives them by the time it takes to say so."""
        guard = self.guard()
        found = tree(guard) if guard else {}
        # The clean-up must find even those whose sidecar is long gone.
        self.seen |= found
        found.pop(guard, None)
        return found

    def leads(self):
        return subprocess.run([SIDECAR, "probe", "leader", "--ready-file", self.ready_file], capture_output=True).returncode == 0

    def ready(self):
        return subprocess.run([SIDECAR, "probe", "ready", "--ready-file", self.ready_file], capture_output=True).returncode == 0


class Place:
    """A PostgreSQL, an Airflow with its metadata in it, and the sidecars; all in one folder, all ended together."""

    def __init__(self, version, folder):
        self.version, self.folder = version, folder
        self.record = folder / "record"
        self.parts, self.sidecars = [], []
        self.postgres = Postgres(folder / "postgres").start()
        self.url = self.postgres.url
        self.connection = psycopg2.connect(self.url)
        self.connection.autocommit = True
        settings = subprocess.check_output(
            [ROOT / "scripts/airflow", "env", version, folder / "airflow", self.url], text=True
        )
        self.environment = os.environ | dict(line.split("=", 1) for line in settings.splitlines())
        self.environment |= {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "dags"),
            "RECORD": str(self.record),
        }

    def start(self):
        with open(self.folder / "migrate.log", "wb") as log:
            subprocess.run(
                ["airflow", "db", "migrate"], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True
            )
        if not self.version.startswith("2."):
            port = self.environment["AIRFLOW__API__PORT"]
            self.part("api-server", ["airflow", "api-server", "--host", "127.0.0.1", "--port", port])
            self.part("dag-processor", ["airflow", "dag-processor"])

    def part(self, name, arguments):
        log = open(self.folder / f"{name}.log", "wb")
        self.parts.append(
            subprocess.Popen(
                arguments, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        )

    def sidecar(self, node):
        self.sidecars.append(Sidecar(self, node))
        return self.sidecars[-1]

    def cli(self, *arguments):
        return subprocess.run([SIDECAR, *arguments], env=self.environment, capture_output=True, text=True)

    def stop(self):
        """Ends what is still there: first asked, then made to."""
        left = {}
        for process in self.parts + [each.keeper for each in self.sidecars]:
            if process.poll() is None:
                left |= tree(process.pid)
                process.terminate()
        for each in self.sidecars:
            left |= each.seen
        eventually(20, lambda: not alive(left))
        for pid in alive(left):
            os.kill(pid, signal.SIGKILL)
        self.connection.close()
        self.postgres.stop()

    # What the database says.

    def rows(self, statement, *parameters):
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall()

    def one(self, statement, *parameters):
        return self.rows(statement, *parameters)[0][0]

    def scheduler_jobs(self):
        return {row[0] for row in self.rows("SELECT id FROM job WHERE job_type = 'SchedulerJob'")}

    def runs(self, state, since="-infinity"):
        return {
            row[0]
            for row in self.rows("SELECT run_id FROM dag_run WHERE state = %s AND start_date >= %s::timestamptz", state, since)
        }

    def heartbeats(self):
        return dict(self.rows("SELECT id, latest_heartbeat FROM job WHERE job_type = 'SchedulerJob'"))

    def beating(self, times):
        """The scheduler jobs that had heartbeats while the newest had `times` of them."""
        first = last = self.heartbeats()
        newest, moved, count = max(first), set(), 0
        for _ in tries(60, 0.2):
            if count >= times:
                break
            current = self.heartbeats()
            count += current[newest] != last[newest]
            moved |= {job for job in current if current[job] != first.get(job)}
            last = current
        return moved

    def labels(self, ports):
        """The application names of the sessions that come from the given client ports."""
        return [
            row[0]
            for row in self.rows("SELECT application_name FROM pg_stat_activity WHERE client_port = ANY(%s)", list(ports))
        ]

    def recorded(self):
        """(time, what, epoch, run) of every line that the DAG's tasks have written."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        return [(float(time), what, int(epoch), run) for time, what, epoch, run in map(str.split, lines)]

    def at_work(self, epoch):
        """The runs whose task of this epoch has begun and not ended."""
        lines = self.recorded()
        begun = {run for _, what, its, run in lines if what == "begin" and its == epoch}
        return begun - {run for _, what, its, run in lines if what == "end" and its == epoch}

    def young(self, epoch, seconds):
        """Those of them whose task began no longer ago than that."""
        since = now() - seconds
        begun = {run for time, what, its, run in self.recorded() if what == "begin" and its == epoch and time > since}
        return begun & self.at_work(epoch)


class Straggler:
    """A session with a leadership's label that no process of its tree holds: what a machine cut off would leave behind."""

    def __init__(self, place, label):
        self.ended = None
        self.connection = psycopg2.connect(place.url, application_name=label)
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        """An idle session hears nothing from its server until that ends it. The kernel knows when, however late this thread runs."""
        select.select([self.connection.fileno()], [], [])
        looked = now()
        with socket.socket(fileno=os.dup(self.connection.fileno())) as its_end:
            # tcpi_last_data_recv: the milliseconds since data came.
            ago = its_end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 56)[52:]
        self.ended = looked - int.from_bytes(ago, sys.byteorder) / 1000


def need(result, what):
    if not result:
        raise Missing(what)
    return result


def leadership(tally, place, sidecar, jobs_before, since):
    """Checks that a sidecar that was just seen to run the command really has a scheduler at work. Gives its environment."""
    node = sidecar.node
    need(eventually(20, lambda: sidecar.child() and "SIDECAR_EPOCH" in sidecar.variables, 0.01), "the command knows its epoch")
    variables = sidecar.variables
    new = eventually(60, lambda: place.scheduler_jobs() - jobs_before)
    tally.check(f"{node}'s scheduler registers as one SchedulerJob", len(new) == 1, f"{now() - since:.1f} s")
    expected = {"SIDECAR_LEASE": LEASE, "SIDECAR_NODE": node}
    tally.check(
        f"{node}'s scheduler knows its lease, node, epoch and instance",
        expected.items() <= variables.items() and {"SIDECAR_EPOCH", "SIDECAR_INSTANCE", "PGAPPNAME"} <= variables.keys(),
    )
    label = variables.get("PGAPPNAME", "")[:63]
    tally.check("its label carries the epoch", variables.get("SIDECAR_EPOCH", "?") in label, label)
    labels = eventually(20, lambda: place.labels(local_ports(sidecar.tree())))
    tally.check(
        f"every database session of {node}'s tree carries that label", set(labels) == {label}, f"{len(labels)} sessions"
    )
    return variables


def goes_on(tally, place, since):
    """Checks that DAG runs that started after `since`, a time of the database, succeed, by the work of one scheduler."""
    done = eventually(90, lambda: len(place.runs("success", since)) >= 2)
    tally.check("DAG runs go on", done, f"{len(place.runs('success', since))} runs begun since have succeeded")
    beating = place.beating(times=3)
    tally.check("exactly one SchedulerJob has heartbeats", beating == {max(place.scheduler_jobs())}, sorted(beating))


def takeover(tally, place, gone_tree, gone_name, successor, began, within):
    """Checks that a tree ends and that its successor's begins only then. Gives when the one was seen to be gone and when the other
    began."""
    last_seen, seen_gone = began, None

    def gone():
        nonlocal last_seen, seen_gone
        looked = now()
        if alive(gone_tree):
            last_seen = looked
            return False
        seen_gone = now()
        return True

    eventually(60, gone, interval=0.005)
    left = [f"{pid} {command(pid)}" for pid in alive(gone_tree)]
    tally.check(
        f"none of {gone_name}'s {len(gone_tree)} processes is left", not left, left or f"{last_seen - began:.2f} s"
    )
    start = started(need(eventually(within, successor.child, interval=0.01), f"{successor.node} runs the command"))
    # The kernel gives starts in ticks of 10 ms, rounded down.
    tally.check("the other's command started only then", not left and last_seen <= start + 0.01, f"{start - began:.2f} s")
    return seen_gone, start


def scenario(tally, place):
    place.start()
    first = place.sidecar("node-1")
    began = now()
    need(eventually(TTL + 20, first.child), "the first sidecar runs the command")
    old = leadership(tally, place, first, set(), began)
    tally.check("its probe says that it leads", eventually(20, first.leads))

    second = place.sidecar("node-2")
    tally.check("the second sidecar is ready", eventually(20, second.ready))
    tally.check("and stands by: it runs nothing", second.child() is None and not second.leads())
    tally.check("sidecar lease ends with 0 and names the leader", (said := place.cli("lease")).returncode == 0 and "node-1" in said.stdout)
    need(eventually(90, lambda: place.runs("success")), "a DAG run succeeds")

    # The leader is killed in the middle of a DAG run.
    epoch = int(old["SIDECAR_EPOCH"])
    straggler = Straggler(place, old["PGAPPNAME"])
    bystander = Straggler(place, "somebody else's")

    def in_the_middle():
        """What must be known before the kill, when it took so little time that a task of four seconds is at work for two more."""
        if not place.young(epoch, 1):
            return None
        known = first.tree(), place.scheduler_jobs(), place.one("SELECT now()")
        return known if place.young(epoch, 2) else None

    first_tree, jobs, since = need(eventually(90, in_the_middle), "a task is at work")
    first.keeper.kill()
    killed = now()
    first.keeper.wait()
    seen_gone, start = takeover(tally, place, first_tree, "node-1", second, killed, within=TTL + 20)
    # With the tree gone this is what the kill has left undone.
    interrupted = place.at_work(epoch)
    new = leadership(tally, place, second, jobs, killed)
    # The claim tells the server to end it, and whoever serves the session obeys when the machine lets him. The first renewal, which
    # would tell him again, comes a fifth of the TTL later: half of that is still the claim's doing.
    tally.check(
        "a session with the old label was ended when the other's command started",
        eventually(20, lambda: straggler.ended) and straggler.ended <= start + TTL / 10,
        straggler.ended and f"{straggler.ended - start:+.2f} s",
    )
    tally.check("a session without one is left alone", not bystander.ended)
    tally.check("the epoch has grown", int(new["SIDECAR_EPOCH"]) > epoch)
    goes_on(tally, place, since)
    tally.check("a run was interrupted", interrupted, len(interrupted))
    tally.check("and is finished by the other", eventually(120, lambda: interrupted <= place.runs("success")))
    lines = place.recorded()
    last_of_old = max(time for time, _, its, _ in lines if its == epoch)
    first_of_new = min(time for time, _, its, _ in lines if its == int(new["SIDECAR_EPOCH"]))
    tally.check(
        "no task of the old leadership wrote after its tree was seen gone",
        seen_gone and last_of_old <= seen_gone,
        f"{last_of_old - killed:+.2f} s from the kill",
    )
    tally.check("nor after the first of the new", last_of_old < first_of_new, f"{first_of_new - last_of_old:.2f} s before")

    # The new leader is told to go, as an orchestrator does.
    third = place.sidecar("node-1")
    tally.check("the first node is back and stands by", eventually(20, third.ready) and third.child() is None)
    second_tree, jobs, since = second.tree(), place.scheduler_jobs(), place.one("SELECT now()")
    second.keeper.terminate()
    told = now()
    takeover(tally, place, second_tree, "node-2", third, told, within=10)
    eventually(20, lambda: second.keeper.poll() is not None)
    # Airflow 3's LocalExecutor now and then does not end although it was told to; the sidecar then kills, and says so.
    # Only after the 30 s of --grace may it do so.
    outstayed = now() - told >= 30 and "still running after the grace period" in (place.folder / "node-2.log").read_text(errors="replace")
    tally.check(
        "the sidecar told to go ends with 0, or with 82 when Airflow outstays its grace period",
        second.keeper.returncode == (82 if outstayed else 0),
        f"exit code {second.keeper.returncode}",
    )
    tally.check("its readiness file is gone", not second.ready_file.exists())
    leadership(tally, place, third, jobs, told)
    goes_on(tally, place, since)
    history = place.cli("lease", "history")
    tally.check("sidecar lease history tells of both nodes", history.returncode == 0 and {"node-1", "node-2"} <= set(history.stdout.split()))

    # Everybody goes.
    last_tree = third.tree()
    third.keeper.terminate()
    tally.check("the last one goes, too, and leaves nothing", eventually(60, lambda: third.keeper.poll() is not None and not alive(last_tree)))
    tally.check("then sidecar lease ends with another code than 0", place.cli("lease").returncode != 0)


def main():
    version, folder = sys.argv[1], Path(sys.argv[2])
    tally = Tally()
    print(f"Airflow {version}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    place = Place(version, folder)
    try:
        scenario(tally, place)
    except Missing as missing:
        tally.check(str(missing), False)
    finally:
        place.stop()
    print(f"{tally.passed} passed, {tally.failed} failed")
    return tally.failed > 0


if __name__ == "__main__":
    sys.exit(main())

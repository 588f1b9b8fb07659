"""The rendered containers, run for real with podman against a PostgreSQL: probes, hand-over within the grace period, a hang, an
outage. What the kubelet would do is done here."""

import json
import os
import re
import signal
import subprocess
import time

from sidecartest.machine import eventually
from sidecartest.postgres import Postgres

from . import manifests
from .chart import library, render, tally, work

# A command that takes a second to drain, and one that never does. They say themselves when that was: the times at which podman
# reads what two containers write may be in another order.
BEGINS = 'date "+THE COMMAND RUNS=%s%N"; while :; do sleep 0.1;'
DRAINS = f'trap "sleep 1; date +DRAINED=%s%N; exit 0" TERM; {BEGINS} done'
HOLDS_OUT = f'trap "" TERM; {BEGINS} date +ALIVE=%s%N; done'
RUNS = "THE COMMAND RUNS"
TTL = 10000


def podman(*arguments, **options):
    return subprocess.run(
        ["podman", *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", check=False, **options)


class Machine:
    """What containers need here: an engine, our image, a PostgreSQL. Made when first asked for."""

    postgres = None
    tag = None

    @classmethod
    def is_there(cls, what):
        good, output = library('engine >&2 && printf "\\n%s" "${CONTAINERS_CONF-}"')
        *reasons, configuration = output.split("\n")
        if not good:
            tally.skip(f"{what}: {output.strip().splitlines()[-1]}")
            return False
        if configuration:
            os.environ["CONTAINERS_CONF"] = configuration
        if not cls.tag:
            good, output = library('sidecar_image >&2 && printf "\\n%s" "$TAG"')
            if not good:
                tally.bad(f"{what}: the image cannot be built", output)
                return False
            cls.tag = output.split("\n")[-1]
        if not cls.postgres:
            cls.new_server()
        return True

    @classmethod
    def new_server(cls):
        """Another server: versions of Airflow do not share a schema."""
        cls.end_server()
        cls.postgres = Postgres(work / f"postgres-{time.monotonic_ns()}").start()

    @classmethod
    def end_server(cls):
        if cls.postgres:
            cls.postgres.stop()
        cls.postgres = None

    @staticmethod
    def not_published(image):
        """Says when the image was a stand-in."""
        for line in library(f"not_published '{image}'")[1].splitlines():
            tally.skip(line.partition("skip ")[2])


class Pod:
    """One pod of a rendered workload; its folder outlives its containers."""

    everyone = []

    def __init__(self, name, manifest, kind="Deployment", main="command"):
        self.label, self.manifest, self.kind, self.main = name, manifest, kind, main
        self.name = f"sidecar-chart-{os.getpid()}-{name}"
        self.folder = work / "pods" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.took = 0

    def _run(self, options, container, kind=None):
        arguments = manifests.run(
            self.manifest, kind or self.kind, container, self.label, str(self.folder), {"connection": Machine.postgres.url})
        # PostgreSQL listens on this machine's loopback; the container listens on nothing.
        return ["run", "--network", "host", "--uts", "private", *options, *arguments]

    def start(self):
        """The container that lasts, in the background."""
        Pod.everyone.append(self.name)
        return podman(*self._run(["--detach", "--name", self.name], self.main)).returncode == 0

    def once(self, container, kind=None):
        """The command that runs a container that ends, in the foreground."""
        return ["podman", *self._run(["--rm", "--name", f"{self.name}-{container}"], container, kind)]

    def initialized(self, container="sidecar-binary"):
        """Whether the init container brings the binary."""
        return podman(*self.once(container)[1:]).returncode == 0

    def probe(self, which):
        """Exactly what the kubelet would run, in the container."""
        try:
            return podman("exec", self.name, *manifests.probe(self.manifest, self.kind, self.main, which), timeout=10).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def answers(self, which, within=60):
        return eventually(within, lambda: self.probe(which), 0.1)

    def denies(self, which, within):
        return eventually(within, lambda: not self.probe(which), 0.1)

    @property
    def log(self):
        return podman("logs", self.name).stdout

    def logs(self, words, within=0):
        return eventually(within, lambda: words in self.log, 0.1)

    def leads(self, within=60):
        return self.logs(RUNS, within)

    def stands_by(self, words=RUNS, within=30):
        """It says that it stands by, and not those words. That it says the one shows that its log can be read."""
        return self.logs("standing by", within) and words not in self.log

    def times(self, word):
        """When its command wrote that word, in nanoseconds."""
        return [int(number) for number in re.findall(rf"{word}=(\d+)$", self.log, re.M)]

    @property
    def exit_code(self):
        return podman("inspect", "--format", "{{.State.ExitCode}}", self.name).stdout.strip()

    def terminate(self):
        """As the kubelet does: SIGTERM, and SIGKILL after the rendered time. Notes the milliseconds that it took."""
        began = time.monotonic()
        podman("stop", "--time", manifests.grace(self.manifest, self.kind), self.name)
        self.took = round((time.monotonic() - began) * 1000)

    @property
    def went_in_time(self):
        return self.took < 1000 * manifests.grace(self.manifest, self.kind)

    def remove(self):
        podman("rm", "--force", "--ignore", "--time", 0, self.name)


def values(command, lease, grace):
    """The image of a command without any library of ours; the binary comes by the init container."""
    path = work / "pods.json"
    path.write_text(json.dumps({
        "image": {"repository": "docker.io/library/debian", "tag": "bookworm-slim"},
        "sidecar": {"image": {"repository": "localhost/sidecar", "tag": Machine.tag}},
        "connection": {"existingSecret": "database"}, "writable": ["/tmp"],
        "command": ["sh", "-c", command],
        "lease": {"name": lease, "ttlSeconds": 10, "graceSeconds": float(grace)}}))
    return ["--values", path]


def pair(names, manifest):
    """Two pods, of which the first leads and the other stands by."""
    first, second = (Pod(name, manifest) for name in names)
    for pod in (first, second):
        pod.initialized() and pod.start()
        pod.answers("startup")
        if pod is first and not first.leads():
            tally.bad(f"{first.label} leads")
    return first, second


def milliseconds(later, earlier):
    return (later[0] - earlier[-1]) // 1_000_000 if later and earlier else None


def part_pods():
    if not Machine.is_there("rendered pods"):
        return
    manifest = render("pods.yaml", *values(DRAINS, "drains", 10))
    if not manifest:
        return
    leader, standby = Pod("a", manifest), Pod("b", manifest)
    for pod in (leader, standby):
        tally.attempt(f"{pod.label}: the init container brings the binary into a read-only container", *pod.once("sidecar-binary"))
    began = time.monotonic()
    leader.start()
    tally.check("a: startup says yes", leader.answers("startup"), f"{(time.monotonic() - began) * 1000:.0f} ms after the start")
    tally.check("a: leads after the first TTL, and is ready", leader.leads() and leader.answers("readiness", 30))
    standby.start()
    tally.check(
        "b: stands by: startup, readiness and liveness say yes without a command",
        standby.answers("startup") and standby.answers("readiness", 30) and standby.probe("liveness") and standby.stands_by())
    rights(leader, standby)
    checks_of_helm(manifest)
    fails_at_once()
    hands_over(leader, standby)
    hangs(standby)
    held = holds_out()
    served = only_the_leader_is_ready()
    outage(held, served)
    Machine.not_published("debian:bookworm-slim")


def rights(leader, standby):
    # In its words, or a podman that does not answer would do as well.
    asked = podman("exec", standby.name, "/opt/sidecar/sidecar", "probe", "leader")
    leads = podman("exec", leader.name, "/opt/sidecar/sidecar", "probe", "leader").returncode == 0
    tally.check("a leads and b does not", leads and asked.returncode == 1 and "standby" in asked.stdout)
    shown = podman("exec", leader.name, "sh", "-c", """id -u; touch /x /etc/x 2>&1 | grep -c "Read-only"
        grep -E "^(CapEff|NoNewPrivs)" /proc/1/status | tr -s "\\t" " " """).stdout
    tally.check(
        "the command's container: user 50000, read-only root, no capability, no new privileges",
        sorted(shown.split("\n")) == ["", "2", "50000", "CapEff: 0000000000000000", "NoNewPrivs: 1"],
        otherwise=f"the container's rights: {shown}")


def checks_of_helm(manifest):
    test = Pod("t", manifest, "Pod")
    tally.attempt("helm test's pod: the binary is brought", *test.once("sidecar-binary"))
    tally.attempt("helm test's pod: check", *test.once("check"))
    tally.attempt("helm test's pod: lease", *test.once("lease"))


def fails_at_once():
    """A command that ends as soon as it is started: somebody leads, and the test must not pass."""
    manifest = render("fails.yaml", *values(f"echo {RUNS}; exit 1", "fails", 1), "--set", "lease.maxRestarts=100")
    pod, test = Pod("k", manifest), Pod("u", manifest, "Pod")
    pod.initialized() and pod.start()
    if not pod.leads():
        tally.bad("k: leads")
    test.initialized()
    tally.refuse(
        "helm test's pod: a command that ends at once does not pass", "does not run|has changed", *test.once("lease"))
    pod.remove()


def hands_over(leader, standby):
    """The kubelet's stop of the leader. The other's command must begin after the first has drained, without waiting for a TTL."""
    leader.terminate()
    if not standby.leads():
        tally.bad("b takes over")
    gap = milliseconds(standby.times(RUNS), leader.times("DRAINED"))
    tally.check(
        f"SIGTERM hands over: a ended with 0 after {leader.took} ms, b began {gap} ms after a had drained (TTL {TTL} ms)",
        leader.exit_code == "0" and leader.went_in_time and gap is not None and 0 < gap < 5000,
        otherwise=f"SIGTERM hands over: exit code {leader.exit_code}, {leader.took} ms, b began {gap} ms after a had drained")
    tally.check("b: ready and alive as the leader", standby.answers("liveness", 30) and standby.answers("readiness", 30))


def hangs(leader):
    """The liveness probe must notice, from files that nobody refreshes any more."""
    began = time.monotonic()
    os.kill(int(podman("inspect", "--format", "{{.State.Pid}}", leader.name).stdout), signal.SIGSTOP)
    noticed = leader.denies("liveness", 90)
    tally.check(
        f"a frozen sidecar: liveness says no after {(time.monotonic() - began) * 1000:.0f} ms", noticed,
        otherwise="liveness believes a frozen sidecar")
    leader.remove()


def holds_out():
    """A command that ignores SIGTERM is killed by the sidecar before the kubelet would kill both, and the lease is released."""
    manifest = render("holds.yaml", *values(HOLDS_OUT, "holds", 2))
    leader, standby = pair("cd", manifest)
    standby.answers("readiness", 30)
    if not standby.stands_by():
        tally.bad("d stands by")
    leader.terminate()
    if not standby.leads():
        tally.bad("d takes over")
    gap = milliseconds(standby.times(RUNS), leader.times("ALIVE"))
    told = f"{leader.took} ms in all of the pod's {manifests.grace(manifest, 'Deployment')} s; d began {gap} ms after it"
    # Not released, the lease would be d's only a TTL after c's last renewal.
    tally.check(
        f"a command that ignores SIGTERM: killed after --grace 2s, released, {told}",
        leader.exit_code == "82" and leader.went_in_time and gap is not None and 0 < gap < 5000,
        otherwise=f"a command that ignores SIGTERM: exit code {leader.exit_code}, {told}")
    return standby


def only_the_leader_is_ready():
    manifest = render(
        "service.yaml", *values(DRAINS, "service", 5), "--set-json",
        'leaderService.enabled=true,leaderService.ports=[{"name":"http","port":80}]')
    leader, standby = pair("ef", manifest)
    tally.check(
        "leaderService: the leader is ready, a standby is not, and lives",
        leader.answers("readiness", 30) and standby.logs("standing by", 30) and not standby.probe("readiness")
        and standby.probe("liveness"))
    leader.terminate()
    tally.check(
        "leaderService: after the hand-over the other is ready", standby.answers("readiness", 30),
        otherwise="leaderService: nobody is ready after the hand-over")
    return standby


def outage(held, served):
    """Without the database nobody is ready, and nothing is restarted for it."""
    Machine.end_server()
    tally.check(
        "without the database: readiness says no, liveness yes",
        served.denies("readiness", 60) and held.denies("readiness", 60) and served.probe("liveness") and held.probe("liveness"))
    served.terminate()
    tally.check(f"without the database: SIGTERM ends it after {served.took} ms", served.went_in_time)

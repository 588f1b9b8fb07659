"""Airflow's own images under the official chart's overlay, and under our chart."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import yaml
from sidecartest.machine import eventually

from . import manifests
from .chart import AIRFLOW, HELM, OVERLAY, library, quick_start, render, tally, template, work
from .pods import Machine, Pod, podman

# What the overlay may set: the values that the official chart's templates/scheduler/scheduler-deployment.yaml reads. Of the
# scheduler's grace period it does so since apache/airflow#41374, that is 1.16.
OFFICIAL = set("""replicas command args livenessProbe.command startupProbe.command terminationGracePeriodSeconds extraInitContainers
    extraVolumes extraVolumeMounts""".split())
# The start of Airflow's scheduler, in the words of 2.10 and of 3.
SCHEDULES = "Starting the scheduler"
VERSIONS = ["2.10.5", "3.3.2"]


def part_official():
    overlay = yaml.safe_load(Path(OVERLAY).read_text(encoding="utf-8"))
    scheduler = overlay["scheduler"]
    used = {f"{key}.{part}" for key, value in scheduler.items() if isinstance(value, dict) for part in value}
    used |= {key for key, value in scheduler.items() if not isinstance(value, dict)}
    foreign = set(overlay) - {"scheduler"} | used - OFFICIAL
    what = "the overlay sets only what the official chart has"
    tally.check(what, not foreign, otherwise=f"{what}, and {foreign}")
    run = [mount["name"] for mount in scheduler["extraVolumeMounts"] if mount["mountPath"] == "/run/sidecar"]
    tally.check(
        "the overlay's liveness probe is one that a standby passes, its grace period above --grace, its file in memory",
        scheduler["livenessProbe"]["command"][-2:] == ["probe", "live"] and scheduler["startupProbe"]["command"][-2:] == ["probe", "ready"]
        and scheduler["terminationGracePeriodSeconds"] >= 34 and scheduler["replicas"] == 2
        # Else a full disk would kill a leader.
        and [volume["emptyDir"]["medium"] for volume in scheduler["extraVolumes"] if volume["name"] in run] == ["Memory"])
    chart = os.environ.get("AIRFLOW_CHART")
    if chart:
        tally.attempt(f"the official chart in {chart} takes the overlay", HELM, "template", "r", chart, "--values", OVERLAY)
    else:
        tally.skip("the overlay rendered with the official chart: set AIRFLOW_CHART to an unpacked one")
    if not Machine.is_there("Airflow's pods"):
        return
    for version in VERSIONS:
        image = f"apache/airflow:{version}"
        if not library(f"stand_in '{image}'")[0]:
            tally.bad(f"Airflow {version}: no image")
            continue
        Machine.new_server()
        migrated = podman(
            "run", "--rm", "--network", "host", "--env", f"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN={Machine.postgres.url}", "--entrypoint",
            "airflow", f"docker.io/{image}", "db", "migrate")
        if migrated.returncode != 0:
            tally.bad(f"airflow {version} db migrate", migrated.stdout)
            continue
        official_overlay(version)
        our_chart(version)
        Machine.not_published(image)


def knows_a_scheduler(pod):
    """What the official chart asks where nothing else is said."""
    return podman("exec", pod.name, "airflow", "jobs", "check", "--job-type", "SchedulerJob", "--local").returncode == 0


def went_well(pod):
    """Whether a pod that was terminated ended as it may: with 0. Airflow 3's LocalExecutor now and then does not end although it was
    told to; the sidecar then kills, which is 82, but not before the 30 s of --grace have passed, and not without saying so."""
    outstayed = pod.took >= 30000 and "still running after the grace period" in pod.log
    return pod.exit_code == ("82" if outstayed else "0")


def official_overlay(version):
    manifest = work / "official.yaml"
    text = manifests.official(OVERLAY, f"docker.io/apache/airflow:{version}")
    manifest.write_text(text.replace("registry.example/sidecar:0.1.0", f"localhost/sidecar:{Machine.tag}"))
    name = f"official overlay, Airflow {version}"
    leader, standby = (Pod(f"{letter}{version}", manifest, "Pod", "scheduler") for letter in "gh")
    for pod in (leader, standby):
        if not pod.initialized("sidecar"):
            tally.bad(f"{pod.label}: the init container")
        pod.start()
        if not pod.answers("startup"):
            tally.bad(f"{pod.label}: startup")
        if pod is leader and not pod.logs(SCHEDULES, 180):
            tally.bad(f"{pod.label}: the scheduler starts", pod.log)
    tally.check(
        f"{name}: the scheduler runs in one pod, both pass the probes",
        standby.probe("liveness") and leader.probe("liveness") and standby.stands_by(SCHEDULES),
        otherwise=f"{name}: one scheduler, both alive")
    # What the chart would ask without the overlay. That it can say yes shows that its no means something.
    if not eventually_knows(leader):
        tally.bad(f"Airflow {version}: `airflow jobs check` knows no scheduler in the leader")
    tally.check(
        f"official chart, Airflow {version}: its own liveness probe says yes in the leader, and would have killed the standby",
        not knows_a_scheduler(standby),
        otherwise=f"Airflow {version}: the chart's own liveness probe passes in a standby: the overlay's reason is gone")
    if not standby.stands_by(SCHEDULES):
        tally.bad(f"{name}: the standby is one until the leader is told to go")
    began = time.monotonic()
    leader.terminate()
    handed = standby.logs(SCHEDULES, 180)
    took = f"the other's scheduler starts {(time.monotonic() - began) * 1000:.0f} ms after SIGTERM"
    tally.check(
        f"{name}: SIGTERM hands over with {leader.exit_code}, pod gone after {leader.took} ms of 45000, {took}",
        handed and went_well(leader),
        otherwise=f"{name}: SIGTERM hands over: exit code {leader.exit_code}, {leader.took} ms")
    standby.terminate()


def eventually_knows(pod):
    return eventually(60, lambda: knows_a_scheduler(pod), 0.1)


def our_chart(version):
    """With a root file system that it cannot write to, and the command of the page, with images that are here."""
    manifest = render(
        "ours.yaml", *quick_start("docs/install/chart.md"), "--set", "image.repository=docker.io/apache/airflow", "--set-string",
        f"image.tag={version}", "--set", "sidecar.image.repository=localhost/sidecar", "--set-string", f"sidecar.image.tag={Machine.tag}",
        "--set", "lease.name=ours")
    pod = Pod(f"i{version}", manifest)
    good = pod.initialized() and pod.start()
    if good and pod.answers("startup") and pod.logs(SCHEDULES, 180) and eventually_knows(pod) and pod.answers("readiness", 30):
        tally.ok(f"Airflow {version} under the chart, its root file system read-only: schedules")
    else:
        tally.bad(f"Airflow {version} under the chart", pod.log)
    pod.terminate()
    tally.check(
        f"Airflow {version} under the chart: ends with {pod.exit_code} after {pod.took} ms", went_well(pod),
        otherwise=f"Airflow {version} under the chart: exit code {pod.exit_code}")


def part_cluster():
    """Only a cluster can say how it rolls out."""
    what = "server-side dry run, rolling update and `helm test` in a cluster"
    reached = shutil.which("kubectl") and subprocess.run(
        ["timeout", "20", "kubectl", "version", "--request-timeout=5s"], capture_output=True, check=False).returncode == 0
    if not reached:
        tally.skip(f"{what}: kubectl reaches no cluster")
        return
    path = render("cluster.yaml", command=template(*AIRFLOW, "--namespace", "default"))
    tally.attempt("server-side dry run", "kubectl", "--namespace", "default", "apply", "--dry-run=server", "--filename", path)
    tally.skip("rolling update and `helm test` in a cluster: they need an image that the cluster can pull")

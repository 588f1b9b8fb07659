"""The parts that need no container: what helm and the schemas of Kubernetes say of every kind of values, that what must be refused
is refused, that a rendered pod promises what it must, and that who judges that would notice."""

import re
import shutil
import subprocess
from pathlib import Path

from sidecartest.tally import said

from . import manifests
from .chart import AIRFLOW, HELM, LEADER, OVERLAY, TOOLS, block, judged, quick_start, render, tally, template, validate, work
from .values import CHART, REFUSED, TAKEN


def part_render():
    rendered = {}
    for number, (file, more) in enumerate(TAKEN, 1):
        arguments = ["--values", f"{CHART}/ci/{file}-values.yaml", *(["--set-json", more] if more else [])]
        # A release may be called 123; but a Service's name begins with a letter.
        release = "true" if file == "leader-service" else "123"
        good, output = said(HELM, "lint", "--strict", "--quiet", CHART, *arguments)
        if not good:
            tally.bad(f"helm takes: {file} {more}", output)
        elif path := render(f"{number}.yaml", command=template(*arguments, release=release)):
            rendered[path] = f"{file} {more}"
    tally.check(f"helm lint --strict and template: {len(rendered)} sets of values", len(rendered) == len(TAKEN))
    for version in range(28, 35):
        tally.attempt(f"kubernetes-validate --strict, Kubernetes 1.{version}", *validate(*rendered, version=f"1.{version}.0"))
    broken = [f"{found[0]} ({what})" for path, what in rendered.items() if (found := judged(path))]
    tally.check(
        f"the chart's promises hold in {len(rendered)} sets of values: probes, grace, rights, update, budget", not broken,
        otherwise="; ".join(broken))
    for page in ("docs/install/chart.md", f"{CHART}/README.md"):
        path = render("quick.yaml", *quick_start(page))
        found = judged(path) if path else ["helm does not render it"]
        configuration = path and re.search(r"name: AIRFLOW_CONFIG\n.*value: /tmp/", path.read_text())
        tally.check(
            f"{page}: what its command renders keeps the promises, and Airflow can write its airflow.cfg", configuration and not found,
            otherwise=f"{page}: its command: {found or 'AIRFLOW_CONFIG is not in /tmp'}")
    pages()
    notes()


def pages():
    """The page's other command, what docs/operations.md says of a Deployment without the chart, and single values."""
    page = "docs/install/chart.md"
    values = work / "beat.values"
    values.write_text(block(page))
    good, output = said(HELM, "lint", "--strict", "--quiet", CHART, "--values", values)
    path = good and render("beat.yaml", command=[HELM, "template", "beat", CHART, "--namespace", "shop", "--values", str(values)])
    what = f"{page}: what its beat.yaml renders keeps the promises, and is valid"
    if not path or judged(path):
        tally.bad(what, output + "\n".join(path and judged(path) or []))
    else:
        tally.attempt(what, *validate(path))

    page = "docs/operations.md"
    (work / "part.yaml").write_text(block(page))
    whole, found = manifests.completed(work / "part.yaml")
    (work / "whole.yaml").write_text(whole)
    what = f"{page}: its part of a Deployment, completed, is valid and asks the sidecar"
    if found:
        tally.bad(what, "\n".join(found))
    else:
        tally.attempt(what, *validate(work / "whole.yaml"))

    path = render("account.yaml", *AIRFLOW, "--set", "serviceAccount.create=false")
    tally.check(
        "without an account of its own: the namespace's default", path and 'serviceAccountName: "default"' in path.read_text(),
        otherwise="serviceAccount.create=false names an account that nobody makes")
    path = render("seccomp.yaml", *AIRFLOW, "--set-json", 'podSecurityContext.seccompProfile={"type":"Localhost","localhostProfile":"p"}')
    tally.check(
        "a seccomp profile of one's own stays", path and re.search(r"seccompProfile:\n(.*\n)?.*type: Localhost", path.read_text()),
        otherwise="a seccomp profile of one's own is overwritten")
    missing = manifests.not_restricted(OVERLAY)
    what = "the overlay's init container is one that the standard `restricted` admits"
    tally.check(what, not missing, otherwise=f"{what}: {missing}")
    missing = manifests.undocumented(f"{CHART}/values.yaml", f"{CHART}/README.md")
    tally.check("README.md names every value", not missing, otherwise=f"README.md names every value, but not {missing}")


def notes():
    """NOTES.txt is rendered by `helm install` only, which asks a cluster, or in a chart where it is a template like any other."""
    folder = work / "notes"
    shutil.copytree(CHART, folder)
    (folder / "templates/NOTES.txt").rename(folder / "templates/notes.yaml")

    def made(*arguments):
        # It is no YAML, which helm says; with --debug it prints what it made all the same.
        return subprocess.run(
            [HELM, "template", "r", str(folder), "--debug", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            check=False).stdout

    leader, airflow = made(*LEADER, "--set", "leaderService.update=Hold"), made(*AIRFLOW)
    tally.check(
        "NOTES.txt says when Airflow may find no airflow.cfg",
        "Neither config.existingConfigMap nor AIRFLOW_CONFIG" in airflow and "AIRFLOW_CONFIG" not in leader)
    tally.check(
        "NOTES.txt says how to see who leads",
        re.search(r"exec deploy/r-sidecar -c command -- /opt/sidecar/sidecar lease$", leader, re.M))


def part_refuse():
    tally.refuse("refused: no values at all", "image.repository", *template())
    for pattern, values in REFUSED:
        tally.refuse(f"refused: {values}", pattern, *template(*AIRFLOW, "--set-json", values))


# Each promise broken in a rendered manifest: what, how the judge must call it, in which, and the change: a pattern, what replaces it,
# and between which lines (patterns, too; to the end where there is no second).
SPOILED = [
    ("a liveness probe that kills standbys", "livenessProbe asks", "good", r"probe, live", "probe, leader", "livenessProbe", "failure"),
    ("a readiness probe that believes a stale file", "readinessProbe asks", "good", r"command: .*",
     "command: [test, -f, /run/sidecar/ready]", "readinessProbe", "failure"),
    ("a root file system that can be written", "root file system", "good", "readOnlyRootFilesystem: true",
     "readOnlyRootFilesystem: false", "name: command", None),
    ("a key that is there twice", "twice", "good", r"^( *)app.kubernetes.io/component: leased",
     r"\g<0>\n\1app.kubernetes.io/component: x", None, None),
    ("a name that is a number", "is no text", "good", r'name: "r-sidecar"$', "name: 123", None, None),
    ("a mount without a volume", "which is no volume", "good", "name: writable-1$", "name: writable-2", "volumeMounts:", "volumes:"),
    ("root", "run as root", "good", "runAsUser: 50000", "runAsUser: 0", None, None),
    ("a capability", "has capabilities", "good", r"drop: \[ALL\]", "drop: [NET_RAW]", None, None),
    ("a token", "token", "good", "automountServiceAccountToken: false", "automountServiceAccountToken: true", None, None),
    ("a grace period below --grace", "the kubelet kills", "good", "terminationGracePeriodSeconds: 45",
     "terminationGracePeriodSeconds: 30", None, None),
    ("an update that kills first", "before a new one", "good", "maxUnavailable: 0", "maxUnavailable: 1", None, None),
    ("a budget that blocks drains", "block a drain", "good", "unhealthyPodEvictionPolicy: AlwaysAllow",
     "unhealthyPodEvictionPolicy: IfHealthyBudget", None, None),
    ("a command without the sidecar", "under the sidecar", "good", r"command: .*run, --\]", "command: [airflow]", None, None),
    ("an update that never ends", "never get ready", "leader", "maxUnavailable: 100%", "maxUnavailable: 0", None, None),
    ("a Service that reaches standbys", "standbys are ready", "leader", "value: leader", "value: healthy", "SIDECAR_READY_WHEN",
     "value: leader"),
]


def spoil(text, pattern, replacement, begin, end):
    """Replaces in each range of lines, both its ends included, as sed does."""
    made, inside = [], begin is None
    for line in text.split("\n"):
        begins = not inside and re.search(begin, line)
        inside = inside or bool(begins)
        made.append(re.sub(pattern, replacement, line) if inside else line)
        if inside and not begins and end and re.search(end, line):
            inside = False
    return "\n".join(made)


def part_judge():
    """The judge must see what it is for."""
    sources = {"good": render("good.yaml", *AIRFLOW).read_text(), "leader": render("leader.yaml", *LEADER).read_text()}
    path = work / "spoiled.yaml"
    for what, words, source, *change in SPOILED:
        path.write_text(spoil(sources[source], *change))
        if path.read_text() == sources[source]:
            tally.bad(f"nothing to spoil: {what}")
            continue
        found = judged(path)
        tally.check(
            f"noticed: {what}", any(re.search(words, each) for each in found), otherwise=f"noticed: {what}: {found or 'accepted'}")


YAMLLINT = """{extends: default, rules: {line-length: {max: 130}, document-start: disable, braces: {max-spaces-inside: 0},
    comments: {min-spaces-from-content: 1}}}"""


def part_lint():
    values = sorted(Path(CHART, "ci").glob("*.yaml"))
    tally.attempt(
        "yamllint: values, overlay, CI values", TOOLS / "yamllint", "--strict", "--config-data", YAMLLINT, f"{CHART}/values.yaml",
        f"{CHART}/Chart.yaml", *values, OVERLAY)
    everything, lasting = [], []
    for file in Path(CHART, "ci").glob("*-values.yaml"):
        everything.append(render(f"checkov-{file.stem}.yaml", "--values", file))
        lasting.append(render(f"deployment-{file.stem}.yaml", "--values", file, "--show-only", "templates/deployment.yaml"))
    checkov = [TOOLS / "checkov", "--framework", "kubernetes", "--compact", "--quiet", "--skip-download", "--file"]
    # What is not asked, and why:
    #   CKV_K8S_11  no CPU limit: a throttled sidecar cannot renew in time, and its command is killed for it
    #   CKV_K8S_43  tag or digest is the user's to choose; the chart takes both
    #   CKV_K8S_15  imagePullPolicy Always makes a registry's outage ours
    #   CKV_K8S_8, 9  probes of the pod of `helm test`, which ends by itself; the Deployments are asked for theirs below
    #   CKV_K8S_35  Airflow takes its connection from a variable; a file is an option of its own (..._CMD)
    tally.attempt(
        f"checkov, {len(everything)} sets of values, with the exceptions that this file gives reasons for", *checkov, *everything,
        "--skip-check", "CKV_K8S_8,CKV_K8S_9,CKV_K8S_11,CKV_K8S_15,CKV_K8S_35,CKV_K8S_43")
    tally.attempt(f"checkov, {len(lasting)} Deployments: their probes", *checkov, *lasting, "--check", "CKV_K8S_8,CKV_K8S_9")
    # What those probes ask is the judge's.
    for name in ("liveness", "readiness"):
        (work / "checkov.yaml").write_text(
            re.sub(rf"^ *{name}Probe:\n(.*\n)*? *failureThreshold:.*\n", "", lasting[0].read_text(), flags=re.M))
        tally.refuse(
            f"and notices a Deployment without a {name} probe", f"{name.capitalize()} Probe", *checkov, work / "checkov.yaml", "--check",
            "CKV_K8S_8,CKV_K8S_9")

"""What the parts share: helm, the folder they work in, the count."""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from sidecartest import ROOT
from sidecartest.tally import Tally, said

from . import manifests
from .values import CHART

TOOLS = Path(os.environ["TOOLS"]) / "bin"
HELM = os.environ["HELM"]
AIRFLOW = ["--values", f"{CHART}/ci/airflow-values.yaml"]
LEADER = ["--values", f"{CHART}/ci/leader-service-values.yaml"]
OVERLAY = "helm/official-chart-values.yaml"

tally = Tally()
work = Path(tempfile.mkdtemp(prefix="sidecar-chart."))
# PostgreSQL and the containers run as other users.
work.chmod(0o755)


def template(*arguments, release="r"):
    """The command that renders the chart."""
    return [HELM, "template", release, CHART, "--namespace", "airflow", *map(str, arguments)]


def render(file, *arguments, command=None):
    """Renders the chart into a file of the folder. Gives its path; None, with a line of why in the count, when helm does not."""
    done = subprocess.run(command or template(*arguments), capture_output=True, text=True, check=False)
    path = work / file
    path.write_text(done.stdout)
    if done.returncode != 0:
        tally.bad(f"helm renders {file}", done.stderr)
        return None
    return path


def judged(path):
    """What breaks a promise in a manifest, and that it cannot be read."""
    try:
        return manifests.judge(path)
    except (ValueError, KeyError) as error:
        return [str(error)]


def validate(*paths, version="1.34.0"):
    return [TOOLS / "kubernetes-validate", "--strict", "--quiet", "--kubernetes-version", version, *paths]


def block(page):
    """The first block of YAML in a page."""
    return subprocess.run(
        [sys.executable, "-B", "Tests/Deploy/docs.py", "block", page, "yaml"], capture_output=True, text=True, check=True).stdout


def quick_start(page):
    """The arguments of the first `helm upgrade` of a page, behind the chart's folder."""
    text = Path(page).read_text(encoding="utf-8")
    command = shlex.split(text[text.index("    helm upgrade"):].replace("\\\n", " ").split("\n")[0])
    return command[command.index(CHART) + 1:]


def library(line):
    """Runs a line of shell with the functions of Tests/Deploy/lib.sh. Gives whether it ended with 0, and what it printed."""
    return said("bash", "-c", f'source scripts/lib.sh; source Tests/Deploy/lib.sh; {line}', cwd=ROOT)

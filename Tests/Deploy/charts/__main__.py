import shutil
import signal
import sys

from . import official, pods, rendering
from .chart import tally, work

PARTS = {
    "render": rendering.part_render, "refuse": rendering.part_refuse, "judge": rendering.part_judge, "lint": rendering.part_lint,
    "pods": pods.part_pods, "official": official.part_official, "cluster": official.part_cluster,
}


def main():
    names = sys.argv[1:] or list(PARTS)
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        sys.exit(f"chart: no such part: {' '.join(unknown)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for name in names:
            PARTS[name]()
    finally:
        if pods.Pod.everyone:
            pods.podman("rm", "--force", "--ignore", "--time", 0, *pods.Pod.everyone)
        pods.Machine.end_server()
        shutil.rmtree(work, ignore_errors=True)
    tally.finish("chart")


main()

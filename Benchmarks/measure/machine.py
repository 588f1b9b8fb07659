"""The machine the figures come from, and the binary they are about."""

import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Without autovacuum nothing but the measured sessions commits. Without fsync, which is off already, the disk is not measured.
SERVER = {"autovacuum": "off", "full_page_writes": "on", "max_connections": "100"}


def find_binary() -> Path:
    given = os.environ.get("SIDECAR_BINARY")
    binary = Path(given) if given else ROOT / ".build" / "sidecar"
    if not os.access(binary, os.X_OK):
        sys.exit(f"no {binary}: run `make build`, or name another with SIDECAR_BINARY")
    return binary.resolve()


def describe(binary: Path) -> str:
    version = subprocess.run([binary, "version"], capture_output=True, text=True, check=True).stdout.strip()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return "\n".join(
        [
            f"sidecar     {version.removeprefix('sidecar ')}, commit {commit()}, {binary.stat().st_size / 1e6:.1f} MB",
            f"machine     {processor()}, {os.cpu_count()} processors, {memory()} GB, {system()}",
            f"load        {load} (1, 5, 15 minutes) before the start",
        ]
    )


def commit() -> str:
    found = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def memory() -> str:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{pages / 1e9:.0f}"


def system() -> str:
    name = "Linux"
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("PRETTY_NAME="):
            name = line.split("=", 1)[1].strip('"')
    return f"{name}, Linux {platform.release()}"

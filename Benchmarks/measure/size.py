"""What each dependency costs: the size it adds to a stripped binary, and to the start of a program.

Builds programs that do nothing but use one dependency, with the flags of the release, from the sources that the project's
own build has checked out. They share parts of the standard library, so the differences do not add up to the whole.
"""

import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from .machine import ROOT
from .spawn import compare
from .text import milliseconds, table

TITLE = "Dependencies: stripped size of a program that uses nothing else, and its time from start to exit"
NEEDS_POSTGRES = False

PROGRAMS = {
    "Nothing": ([], "import Glibc\nexit(CommandLine.arguments.count > 9 ? 1 : 0)"),
    "Logging": (
        ['.product(name: "Logging", package: "swift-log")'],
        """
        import Logging
        let log = Logger(label: "size") { _ in SwiftLogNoOpLogHandler() }
        log.info("hello", metadata: ["name": "value"])
        """,
    ),
    "ArgumentParser": (
        ['.product(name: "ArgumentParser", package: "swift-argument-parser")'],
        """
        import ArgumentParser
        struct Size: ParsableCommand {
            @Option var name: String?
            @Flag var loud = false
            @Argument(parsing: .postTerminator) var rest: [String] = []
            func run() {}
        }
        Size.main()
        """,
    ),
    "FoundationEssentials": (
        [],
        """
        import FoundationEssentials
        struct State: Codable { var name: String; var number: Int64? }
        let data = try JSONEncoder().encode(State(name: UUID().uuidString, number: 1))
        _ = try JSONDecoder().decode(State.self, from: data)
        """,
    ),
    "libpq": (['"CLibPQ"'], "import CLibPQ\nimport Glibc\nexit(PQlibVersion() > 0 ? 0 : 1)"),
}


def run(binary, postgres, folder, options) -> None:
    checkouts = ROOT / ".build" / "checkouts"
    if not checkouts.is_dir():
        subprocess.run(["swift", "package", "--package-path", ROOT, "resolve"], check=True)
    package = folder / "size"
    write_package(package, checkouts)
    flags = ["-c", "release", "-Xswiftc", "-static-stdlib", "--package-path", str(package)]
    built = subprocess.run(["swift", "build", *flags], capture_output=True, text=True, check=False)
    if built.returncode != 0:
        sys.exit(f"swift build failed:\n{built.stdout}{built.stderr}")
    products = Path(subprocess.run(
        ["swift", "build", *flags, "--show-bin-path"], capture_output=True, text=True, check=True
    ).stdout.strip())
    programs = {}
    for name in PROGRAMS:
        programs[name] = package / name
        subprocess.run(["strip", "-o", programs[name], products / f"only-{name}"], check=True)
    taken = compare({name: [path] for name, path in programs.items()} | {"sidecar version": [binary, "version"]}, 50)

    least_size = programs["Nothing"].stat().st_size
    least_time = statistics.median(taken["Nothing"])
    least_libraries = libraries(programs["Nothing"])
    rows = [["", "size", "adds", "shared libraries it adds", "start", "adds"]]
    for name, path in {**programs, "sidecar version": binary}.items():
        size = path.stat().st_size
        more = {library: length for library, length in libraries(path).items() if library not in least_libraries}
        median = statistics.median(taken[name])
        rows.append([
            name, f"{size / 1e6:.2f} MB", f"{(size - least_size) / 1e6:.2f} MB",
            f"{len(more)}, {sum(more.values()) / 1e6:.1f} MB", milliseconds(median),
            milliseconds(max(0, median - least_time)),
        ])
    print(table(rows))
    print("start: median of 50, in turns. Shared libraries: all that ldd names, on this system")


def write_package(package: Path, checkouts: Path) -> None:
    targets = []
    for name, (needs, source) in PROGRAMS.items():
        target = package / "Sources" / f"only-{name}"
        target.mkdir(parents=True)
        (target / "main.swift").write_text(re.sub(r"^        ", "", source, flags=re.MULTILINE))
        targets.append(f'.executableTarget(name: "only-{name}", dependencies: [{", ".join(needs)}])')
    shutil.copytree(ROOT / "Sources" / "CLibPQ", package / "Sources" / "CLibPQ")
    (package / "Package.swift").write_text(f"""// swift-tools-version: 6.2
import PackageDescription
let package = Package(
    name: "size",
    dependencies: [
        .package(path: "{checkouts}/swift-argument-parser"), .package(path: "{checkouts}/swift-log"),
    ],
    targets: [.systemLibrary(name: "CLibPQ", pkgConfig: "libpq"), {", ".join(targets)}])
""")


def libraries(program: Path) -> dict:
    """Sizes of the shared libraries, by path."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return {path: Path(path).stat().st_size for path in re.findall(r"(/\S+) \(0x", listed)}

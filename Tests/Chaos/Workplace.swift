// What a run of the harness leaves on the machine while it lasts (a folder, namespaces, control groups, mounts, processes),
// and the janitor that takes it away again: a shell that waits for the end of its input, which comes however the harness
// ended.

import Foundation
import TestSupport

/// The run's own names. Nothing that it makes is without them.
final class Workplace: Sendable {
    /// Begins the name of every network namespace and every control group of this run.
    let prefix: String
    /// Everything that is written goes below it.
    let directory: String
    private let janitor: Process
    /// Our end of the janitor's input. No process that we start may inherit it, or it would not close with us.
    private let alive: Int32

    /// $1: the prefix, $2: the folder. The namespaces' processes include what detached itself from everything else. Without
    /// namespaces they are known by the folder in their arguments or environment, or by the name of the lease.
    private static let clean = """
        groups() {
            for root in $(sed -n 's/^[^ ]* \\([^ ]*\\) cgroup2\\{0,1\\} .*/\\1/p' /proc/self/mounts); do
                for group in "$root/$1-"*; do [ -d "$group" ] && echo "$group"; done
            done
        }
        clean() {
            # What is frozen could not be killed, and what is starved would take its time.
            for group in $(groups "$1"); do
                echo THAWED >"$group/freezer.state"; echo 0 >"$group/cgroup.freeze"
                echo -1 >"$group/cpu.cfs_quota_us"; echo max >"$group/cpu.max"
            done
            for name in $(ip netns list 2>/dev/null | sed -n "s/^\\($1-[a-z0-9]*\\).*/\\1/p"); do
                tries=0
                while pids=$(ip netns pids "$name") && [ -n "$pids" ] && [ "$tries" -lt 100 ]; do
                    kill -s KILL $pids; tries=$((tries + 1))
                done
                ip netns delete "$name"; rm -rf "/etc/netns/$name"
            done
            for file in $(grep -lsa -e "$2/" -e "SIDECAR_LEASE=$1" /proc/[0-9]*/cmdline /proc/[0-9]*/environ); do
                pid=${file#/proc/}; pid=${pid%/*}
                [ "$pid" = $$ ] || kill -s KILL "$pid"
            done
            for group in $(groups "$1"); do
                tries=0
                while [ -d "$group" ] && [ "$tries" -lt 100 ]; do
                    kill -s KILL $(cat "$group/cgroup.procs"); find "$group" -depth -type d -exec rmdir {} +
                    tries=$((tries + 1))
                done
            done
            for file in "$2"/*/*/volume/data/postmaster.pid; do
                memory=$(sed -n '7s/.* //p' "$file") && [ -n "$memory" ] && ipcrm -m "$memory"
            done
            for mount in $(sed -n "s|^[^ ]* \\($2/[^ ]*\\) .*|\\1|p" /proc/self/mounts); do umount -l "$mount"; done
            rm -rf -- "$2"
        } 2>/dev/null
        """

    init() throws {
        let parent = ProcessInfo.processInfo.environment["TMPDIR"] ?? "/tmp"
        prefix = "chaos-\(getpid())"
        directory = "\(parent)/sidecar-chaos-\(getpid())"
        let script =
            Self.clean + """

                trap '' INT TERM HUP
                # What harnesses left that died together with their janitor.
                for left in $(
                    { ip netns list; groups chaos; } 2>/dev/null | sed -n 's|^.*/||; s/^chaos-\\([0-9]*\\)-.*/\\1/p' | sort -u
                ); do
                    [ -e "/proc/$left" ] || clean "chaos-$left" "$3/sidecar-chaos-$left"
                done
                clean "$1" "$2"
                mkdir "$2" && echo ready
                while read -r _; do :; done
                clean "$1" "$2"
                """
        janitor = Process()
        janitor.executableURL = URL(fileURLWithPath: "/bin/sh")
        janitor.arguments = ["-c", script, "janitor", prefix, directory, parent]
        let input = Pipe()
        let output = Pipe()
        janitor.standardInput = input
        janitor.standardOutput = output
        try janitor.run()
        alive = fcntl(input.fileHandleForWriting.fileDescriptor, F_DUPFD_CLOEXEC, 3)
        try input.fileHandleForWriting.close()
        guard output.fileHandleForReading.availableData.starts(with: Data("ready".utf8)) else {
            throw Failure("cannot make \(directory)")
        }
        chmod(directory, 0o755)
    }

    /// Takes everything away and returns when it is gone.
    func close() {
        guard janitor.isRunning else { return }
        Glibc.close(alive)
        janitor.waitUntilExit()
    }
}

/// What went wrong with the harness itself.
struct Failure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

// The judge of who outlives SIGKILL by the kernel's doing, shown a disk that stands still: only who was killed and is held
// there is excused, and only together with all of its tree.

import Clock
import Foundation
import TestSupport
import Testing

@Suite struct SlowDeathsTests {
    private func member(_ tree: String, _ script: String, in directory: String) throws -> SpawnedProcess {
        try SpawnedProcess(
            ["sh", "-c", script],
            environment: [
                "PATH": "/usr/bin:/bin", "SIDECAR_LEASE": "slow", "SIDECAR_EPOCH": "7", "SIDECAR_INSTANCE": tree,
            ],
            output: "\(directory)/\(UUID().uuidString)")
    }

    @Test(.enabled(if: StillDisk.isPossible, "a loop device cannot be mounted here"))
    func onlyWhoIsKilledAndHeldByTheKernelIsExcused() async throws {
        try await onOwnThread {
            let directory = try makeTemporaryDirectory("slow")
            defer { try? FileManager.default.removeItem(atPath: directory) }
            let disk = try StillDisk(in: directory)
            defer { disk.thaw() }
            try disk.freeze()
            let slow = SlowDeaths(lease: "slow")
            defer { slow.end() }
            let write = "echo x >\(disk.path)/$$"
            let alone = try member("alone", write, in: directory)
            let withOther = try member("two", write, in: directory)
            let other = try member("two", "exec sleep 60", in: directory)
            defer { other.signal(SIGKILL) }
            let held = [alone, withOther]
            // They end with the disk's sleep, and are waited for where they are let go of.
            defer { withExtendedLifetime(held) { disk.thaw() } }
            try eventually("both wait for the disk") { held.allSatisfy { processState($0.pid) == "D" } }
            // Seen alive first, as in a run: what is about to end has no environment any more.
            let begin = BootClock.now()
            try eventually("it is looked at a few times") { BootClock.now().since(begin) > .milliseconds(300) }
            #expect(!slow.excuses("7-alone-1", at: BootClock.now()), "nobody has killed it")

            for each in held { each.signal(SIGKILL) }
            try eventually("it is excused") { slow.excuses("7-alone-1", at: BootClock.now()) }
            try eventually("so is its fellow seen") {
                slow.evidence("7-two-1", at: BootClock.now()).contains("\(withOther.pid) D killed")
            }
            let now = BootClock.now()
            #expect(!slow.excuses("7-two-1", at: now), "one of it was not killed")
            #expect(!slow.excuses("7-nobody-1", at: now))
            #expect(!slow.excuses("7-alone-1", at: begin), "it was not held then")
            #expect(slow.evidence("7-alone-1", at: now).contains("mnt_want_write"))

            try eventually("long enough") { BootClock.now().since(now) > .milliseconds(600) }
            disk.thaw()
            #expect(try alone.waitForExit() == .signal(Int(SIGKILL)))
            try eventually("its end is told") { slow.slow.contains { $0.hasPrefix("\(alone.pid):") } }
            let later = BootClock.now() + .seconds(1)
            #expect(!slow.excuses("7-alone-1", at: later))
        }
    }
}

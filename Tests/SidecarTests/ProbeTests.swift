// The probes that read a readiness file: what they believe, and that it is worth nothing once stale.

import Clock
import Foundation
import Testing

@testable import Outlets
@testable import Sidecar

@Suite("Probes") final class ProbeTests {
    private let folder = NSTemporaryDirectory() + "sidecar-ready-\(UUID().uuidString)"
    private var file: ReadyFile { ReadyFile(path: folder + "/deeper") }

    init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(atPath: folder) }

    private func state(role: String = "leader", deadline: Instant, boot: String = ReadyFile.bootID()) -> ReadyState {
        ReadyState(
            role: role, lease: "l", node: "n", instance: "i", epoch: 5, healthy: true, deadline: deadline.nanoseconds,
            bootID: boot, pid: 1, version: "v")
    }

    @Test("A fresh file of a leader answers ready and leader; only a live file answers live") func fresh() {
        let later = BootClock.now() + .seconds(60)
        #expect(file.write(state(deadline: later)) == 0)
        #expect(Probe.ready.answer(file: file) == 0)
        #expect(Probe.leader.answer(file: file) == 0)
        #expect(Probe.live.answer(file: file) == 1)
        #expect(file.live.write(state(deadline: later)) == 0)
        #expect(Probe.live.answer(file: file) == 0)
    }

    @Test(
        "A sidecar that lives and is not ready has its reason in the live file, and another version's without one is read"
    )
    func trouble() throws {
        var live = state(deadline: BootClock.now() + .seconds(60))
        live.trouble = "no right"
        #expect(file.live.write(live) == 0)
        #expect(Probe.ready.reason(file: file)?.hasSuffix("does not exist or cannot be read: no right") == true)
        #expect(Probe.live.reason(file: file) == nil)
        #expect(Probe.ready.reason(file: file, now: BootClock.now() + .seconds(61))?.contains("no right") == false)
        live.trouble = nil
        #expect(file.live.write(live) == 0)
        #expect(
            !String(decoding: try #require(FileManager.default.contents(atPath: file.live.path)), as: UTF8.self)
                .contains("trouble"))
        #expect(Probe.ready.reason(file: file)?.hasSuffix("does not exist or cannot be read") == true)
    }

    @Test("A standby is ready, but no leader") func standby() {
        #expect(file.write(state(role: "standby", deadline: BootClock.now() + .seconds(60))) == 0)
        #expect(Probe.ready.answer(file: file) == 0)
        #expect(Probe.leader.answer(file: file) == 1)
    }

    @Test("A file past its deadline, of another boot, half-written, empty or absent answers no") func stale() throws {
        let now = BootClock.now()
        #expect(Probe.ready.answer(file: file) == 1)
        #expect(file.write(state(deadline: now)) == 0)
        #expect(Probe.ready.answer(file: file, now: now) == 1)
        #expect(file.write(state(deadline: now + .seconds(60), boot: "another")) == 0)
        #expect(Probe.ready.answer(file: file) == 1)
        #expect(file.write(state(deadline: now + .seconds(60))) == 0)
        let whole = try #require(FileManager.default.contents(atPath: file.path))
        try whole.prefix(whole.count / 2).write(to: URL(fileURLWithPath: file.path))
        #expect(Probe.ready.answer(file: file) == 1)
        try Data().write(to: URL(fileURLWithPath: file.path))
        #expect(Probe.ready.answer(file: file) == 1)
    }

    @Test(
        "A folder in a shared place that is somebody else's is neither written nor believed",
        .enabled(if: getuid() == 0, "only root can give a folder away")) func foreignFolder() throws
    {
        var shared = file
        shared.isInSharedPlace = true
        #expect(shared.write(state(deadline: BootClock.now() + .seconds(60))) == 0)
        #expect(Probe.ready.answer(file: shared) == 0)
        #expect(chown(folder, 65534, 65534) == 0)
        #expect(Probe.ready.answer(file: shared) == 1)
        #expect(shared.write(state(deadline: BootClock.now())) == EPERM)
    }

    @Test(
        "Another user's file in a folder for all is not believed; root's, one's own and the folder owner's are",
        .enabled(if: getuid() == 0, "only root can give a file away")) func foreignFile() throws
    {
        #expect(chmod(folder, 0o1777) == 0)
        #expect(file.write(state(deadline: BootClock.now() + .seconds(60))) == 0)
        #expect(Probe.ready.answer(file: file) == 0)
        #expect(chown(file.path, 12345, 12345) == 0)
        #expect(file.read() == .untrusted(owner: 12345))
        for probe in Probe.allCases { #expect(probe.answer(file: file) == 1, "\(probe)") }
        #expect(chown(folder, 12345, 12345) == 0)
        #expect(Probe.ready.answer(file: file) == 0)
    }

    @Test("A link is not followed: it could lead to the file of a sidecar that runs") func link() throws {
        #expect(file.write(state(deadline: BootClock.now() + .seconds(60))) == 0)
        let link = ReadyFile(path: folder + "/link")
        #expect(symlink(file.path, link.path) == 0)
        #expect(Probe.ready.answer(file: link) == 1)
    }

    @Test("A file of another time namespace, whose clock is shifted, answers no") func timeNamespace() {
        var written = state(deadline: BootClock.now() + .seconds(60))
        written.timeNamespace = 4711
        #expect(file.write(written) == 0)
        #expect(Probe.ready.answer(file: file, timeNamespace: 4711) == 0)
        #expect(Probe.ready.answer(file: file, timeNamespace: 4712) == 1)
        #expect(Probe.ready.answer(file: file, timeNamespace: nil) == 1)
        // An older sidecar's.
        written.timeNamespace = nil
        #expect(file.write(written) == 0)
        #expect(Probe.ready.answer(file: file) == 0)
    }
}

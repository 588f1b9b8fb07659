// The readiness file and the probes that read it: written whole, readable by all, and worth nothing once stale.

import Clock
import Foundation
import Testing

@testable import Sidecar

@Suite("Readiness file and probes") final class ReadyFileTests {
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
        #expect(Probe.ready.reason(file: file)?.hasSuffix("is not there or not readable: no right") == true)
        #expect(Probe.live.reason(file: file) == nil)
        #expect(Probe.ready.reason(file: file, now: BootClock.now() + .seconds(61))?.contains("no right") == false)
        live.trouble = nil
        #expect(file.live.write(live) == 0)
        #expect(
            !String(decoding: try #require(FileManager.default.contents(atPath: file.live.path)), as: UTF8.self)
                .contains("trouble"))
        #expect(Probe.ready.reason(file: file)?.hasSuffix("is not there or not readable") == true)
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

    @Test("It has mode 0644 whatever the umask, and no temporary file stays behind") func mode() throws {
        let old = umask(0o077)
        defer { umask(old) }
        #expect(file.write(state(deadline: BootClock.now())) == 0)
        let attributes = try FileManager.default.attributesOfItem(atPath: file.path)
        #expect(attributes[.posixPermissions] as? Int == 0o644)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["deeper"])
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

    @Test("What cannot be written says why") func unwritable() {
        #expect(ReadyFile(path: "/proc/nonsense/ready").write(state(deadline: BootClock.now())) != 0)
    }

    @Test("JSON strings hold whatever they are given") func jsonStrings() throws {
        let text = "a\"b\\c\n\t\u{1}é"
        let back = try JSONDecoder().decode([String].self, from: Data("[\(JSON.string(text))]".utf8))
        #expect(back == [text])
    }
}

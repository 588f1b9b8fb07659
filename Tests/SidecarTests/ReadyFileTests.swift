// The readiness file and the probes that read it: written whole, readable by all, and worth nothing once stale.

import Clock
import Foundation
import Synchronization
import TestSupport
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

    @Test("Only one may write: the second is told who does, and gets its turn when that one ends") func lock() throws {
        let first = try ReadyFileLock(file, node: "node-1")
        do {
            _ = try ReadyFileLock(file, node: "node-2")
            Issue.record("both have the lock")
        } catch let failure as Failure {
            #expect(failure.code == 78)
            #expect(failure.message.contains("pid \(getpid()), node node-1"), "\(failure.message)")
            #expect(failure.message.contains("--ready-file"))
        }
        _ = try ReadyFileLock(ReadyFile(path: folder + "/other"), node: "node-2")
        first.release()
        #expect(!FileManager.default.fileExists(atPath: file.path + ".lock"))
        try ReadyFileLock(file, node: "node-2").release()
    }

    @Test("A lock whose file was cleaned away is taken again, or is another sidecar's by then, and left alone")
    func cleanedAway() throws {
        let path = file.path + ".lock"
        let manager = FileManager.default
        let first = try ReadyFileLock(file, node: "node-1")
        try manager.removeItem(atPath: path)
        try first.keep()
        #expect(throws: Failure.self, "made again, and locked") { try ReadyFileLock(file, node: "node-2") }
        try manager.removeItem(atPath: path)
        let second = try ReadyFileLock(file, node: "node-2")
        #expect(throws: Failure.self, "the other one's now") { try first.keep() }
        first.release()
        #expect(manager.fileExists(atPath: path), "not its own to remove")
        try second.keep()
        second.release()
        #expect(!manager.fileExists(atPath: path))
    }

    @Test("A publisher writes no more where another sidecar has taken over the file, and removes nothing of it")
    func publisherGivesWay() throws {
        let said = Mutex<[String]>([])
        let publisher = try Publisher(file: file, lock: ReadyFileLock(file, node: "node-1")) { line in
            said.withLock { $0.append(line) }
        }
        let other = state(deadline: BootClock.now() + .seconds(60))
        try FileManager.default.removeItem(atPath: file.path + ".lock")
        let second = try ReadyFileLock(file, node: "node-2")
        #expect(file.write(other) == 0)
        var mine = other
        mine.node = "node-1"
        publisher.publish(Publisher.Picture(ready: mine, live: mine))
        try eventually("it complains") { said.withLock { $0.contains { $0.contains("another sidecar's") } } }
        publisher.remove(waitingMilliseconds: 10_000)
        #expect(file.read() == .state(other))
        second.release()
    }

    @Test("What is left of a holder that was killed is no lock, and what is no lock is left alone") func noLock() throws
    {
        let path = file.path + ".lock"
        try Data("sidecar pid 1, node gone\n".utf8).write(to: URL(fileURLWithPath: path))
        try ReadyFileLock(file, node: "node").release()
        try Data("precious".utf8).write(to: URL(fileURLWithPath: path))
        #expect(throws: Failure.self) { try ReadyFileLock(file, node: "node") }
        #expect(FileManager.default.contents(atPath: path) == Data("precious".utf8))
        try FileManager.default.removeItem(atPath: path)
        #expect(mkfifo(path, 0o600) == 0)
        #expect(throws: Failure.self) { try ReadyFileLock(file, node: "node") }
        // Where nothing can be written there is nothing to lock; the file itself will say so.
        try ReadyFileLock(ReadyFile(path: "/proc/nonsense/ready"), node: "node").release()
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

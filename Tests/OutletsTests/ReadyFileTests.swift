// The readiness file and its lock: written whole, readable by all, and by one sidecar only.

import Clock
import Foundation
import Synchronization
import Testing
import Text

@testable import Lease
@testable import Outlets

@Suite("Readiness file") final class ReadyFileTests {
    private let folder = NSTemporaryDirectory() + "sidecar-ready-\(UUID().uuidString)"
    private var file: ReadyFile { ReadyFile(path: folder + "/deeper") }

    init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(atPath: folder) }

    private func state(deadline: Instant) -> ReadyState {
        ReadyState(
            role: "leader", lease: "l", node: "n", instance: "i", epoch: 5, healthy: true,
            deadline: deadline.nanoseconds, bootID: ReadyFile.bootID(), pid: 1, version: "v")
    }

    @Test("It has mode 0644 whatever the umask, and no temporary file stays behind") func mode() throws {
        let old = umask(0o077)
        defer { umask(old) }
        #expect(file.write(state(deadline: BootClock.now())) == 0)
        let attributes = try FileManager.default.attributesOfItem(atPath: file.path)
        #expect(attributes[.posixPermissions] as? Int == 0o644)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["deeper"])
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

    private func outlet(_ node: String, onError: @escaping @Sendable (String) -> Void = { _ in }) throws
        -> ReadinessOutlet
    {
        ReadinessOutlet(
            file: file, lock: try ReadyFileLock(file, node: node),
            identity: Identity(lease: "l", node: node, instance: InstanceID("i")), ttl: .seconds(10), onError: onError)
    }

    private func picture(_ role: Snapshot.Role, unready: Trouble? = nil, isGuarded: Bool = true) -> Picture {
        Picture(
            Snapshot(
                role: role, trouble: unready, unready: unready, validUntil: Self.now + .seconds(4),
                isGuarded: isGuarded),
            at: Self.now)
    }

    private static let now = BootClock.now()

    @Test("What is written follows the picture") func follows() throws {
        var outlet = try outlet("node-1")
        outlet.take(picture(.leader(Epoch(7))))
        guard case .state(let ready) = file.read(), case .state(let live) = file.live.read() else {
            Issue.record("not written")
            return
        }
        #expect(ready.role == "leader" && ready.epoch == 7 && ready.healthy && ready.trouble == nil)
        #expect(ready.deadline == (Self.now + .seconds(4)).nanoseconds)
        #expect(live.deadline == (Self.now + .seconds(10)).nanoseconds)

        outlet.take(picture(.standby, unready: .guardUnavailable))
        #expect(file.read() == .absent)
        guard case .state(let standby) = file.live.read() else {
            Issue.record("not written")
            return
        }
        #expect(standby.role == "standby" && standby.epoch == nil && !standby.healthy)
        #expect(standby.trouble == "the guard does not answer")

        outlet.take(picture(.standby, unready: .guardUnavailable, isGuarded: false))
        #expect(file.live.read() == .absent)
        outlet.take(picture(.leader(Epoch(8))))
        outlet.close()
        #expect(file.read() == .absent && file.live.read() == .absent)
        #expect(!FileManager.default.fileExists(atPath: file.path + ".lock"))
    }

    @Test("Nothing is written any more where another sidecar has taken over the file, nor removed")
    func givesWay() throws {
        let said = Mutex<[String]>([])
        var outlet = try outlet("node-1") { line in said.withLock { $0.append(line) } }
        let other = state(deadline: BootClock.now() + .seconds(60))
        try FileManager.default.removeItem(atPath: file.path + ".lock")
        let second = try ReadyFileLock(file, node: "node-2")
        #expect(file.write(other) == 0)
        for _ in 0..<3 { outlet.take(picture(.leader(Epoch(7)))) }
        #expect(said.withLock { $0.count { $0.contains("another sidecar uses") } } == 1, "once")
        outlet.close()
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
}

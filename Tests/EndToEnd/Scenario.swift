// The stage of every fault: a database, a few sidecars around recording children, and the questions a test asks about
// them. Ends by judging what every scenario must keep: no two trees alive at once, and well-behaved sessions.

import Clock
import Foundation
import Synchronization
import TestSupport
import Testing

/// One scenario: one lease in one database.
final class Scenario {
    /// Short enough for a quick matrix, long enough for two noisy cores.
    static let ttl = Duration.seconds(3)
    static let margin = Duration.milliseconds(600)
    static let allShapes = ["--members", "plain,stubborn,setsid,daemon,stopped,hopping"]

    let postgres: PrivatePostgres
    let lease: String
    let database: String
    /// The role that the next sidecar or command connects as.
    var user = "airflow"
    let directory: String
    /// Where the recorders write.
    let recordings: String
    private(set) var sidecars: [SidecarProcess] = []
    private(set) var proxies: [TCPProxy] = []
    private let watcher: ActivityWatcher
    private let witness = StallWitness()
    private let reader: RecordingReader

    /// Runs one scenario on a thread of its own: `body` acts and asserts, then the common judgement follows.
    ///
    /// Where the machine stood still for longer than the margin allows, what `body` found is no fault yet: the whole scenario is
    /// run again once the machine is calm. Where it never is, the test is cancelled, which counts as skipped. The judgement
    /// (never two, epochs that grow) is not excused at all.
    /// - Parameter exempt: trees that were beyond any process and may have overlapped.
    static func run(
        on postgres: PrivatePostgres, exempt: @escaping @Sendable (Recording) -> Set<RecordedTree.ID> = { _ in [] },
        sourceLocation: SourceLocation = #_sourceLocation, _ body: @Sendable (Scenario) throws -> Void
    ) async throws {
        let stall = try await onOwnThread {
            var stall = Duration.zero
            for attempt in 1...attempts {
                if attempt > 1 { StallWitness.waitForCalm(atMost: .seconds(60)) }
                let scenario = try Scenario(on: postgres)
                defer { scenario.close() }
                let excuse = scenario.carryOut(sourceLocation, body)
                scenario.judge(exempt: exempt, sourceLocation)
                guard let excuse else { return Duration.zero }
                stall = excuse
            }
            return stall
        }
        guard stall > .zero else { return }
        // scripts/test knows these words, and bounds how many may be skipped for that.
        try Test.cancel("no processor time: the machine stood still for \(stall), and \(attempts) times so")
    }

    private static let attempts = 4

    /// - Returns: how long the machine stood still, where `body` found faults that may be due to that.
    private func carryOut(_ sourceLocation: SourceLocation, _ body: (Scenario) throws -> Void) -> Duration? {
        defer { witness.end() }
        witness.watchThisThread()
        let excused = Mutex<Duration?>(nil)
        withKnownIssue("the machine stood still", isIntermittent: true, sourceLocation: sourceLocation) {
            do { try body(self) } catch {
                Issue.record("\(error)\n\(report)", sourceLocation: sourceLocation)
            }
            judgeSessions(sourceLocation)
        } matching: { [witness] _ in
            let stall = witness.longest
            guard stall > Self.margin - .milliseconds(100) else { return false }
            let isFirst = excused.withLock { excused in
                defer { excused = stall }
                return excused == nil
            }
            if isFirst { print("not judged, as the machine stood still for \(stall): \(sourceLocation)") }
            return true
        }
        return excused.withLock { $0 }
    }

    private init(on postgres: PrivatePostgres) throws {
        self.postgres = postgres
        let id = String(UUID().uuidString.prefix(8).lowercased())
        lease = "lease-\(id)"
        database = "e2e_\(id)"
        directory = try makeTemporaryDirectory("sidecar-e2e")
        recordings = directory + "/recordings"
        reader = RecordingReader(directory: recordings)
        try FileManager.default.createDirectory(atPath: recordings, withIntermediateDirectories: true)
        // An ordinary role, as Airflow has one: a sidecar must not need more.
        let admin = try DirectSession(postgres.socketURL)
        try admin.rows("SELECT pg_advisory_lock(1)")
        if try admin.value("SELECT 1 FROM pg_roles WHERE rolname = 'airflow'") == nil {
            try admin.rows("CREATE ROLE airflow LOGIN")
        }
        try admin.rows("CREATE DATABASE \(database) OWNER airflow")
        // The children's sessions are labelled sidecar:EPOCH:...; what they do is their own business.
        // So are the sessions of the short commands (sidecar-tool): `check` tries everything in a transaction.
        watcher = ActivityWatcher(
            url: postgres.socketURL, database: database, names: "sidecar-%er:%", except: "sidecar:%")
    }

    /// The database over TCP, straight or through a proxy, as the sidecars' role.
    func url(through proxy: TCPProxy? = nil) -> String {
        "postgresql://\(user)@127.0.0.1:\(proxy?.port ?? postgres.port)/\(database)"
    }

    /// A session of the test's own in the scenario's database, as superuser.
    func session() throws -> DirectSession { try DirectSession(postgres.socketURL(database: database)) }

    /// A proxy in front of the server, ended with the scenario.
    func proxy() throws -> TCPProxy {
        let proxy = try TCPProxy(target: postgres.port)
        proxies.append(proxy)
        return proxy
    }

    /// Starts one more sidecar around a recorder with members of every shape (or around `command`).
    /// - Parameter environment: says where the database is, in place of --database-url.
    @discardableResult
    func start(
        _ node: String, options: [String] = [], child: [String] = Scenario.allShapes, command: [String]? = nil,
        through proxy: TCPProxy? = nil, environment: [String: String]? = nil, asInit: Bool = false,
        launcher: [String] = []
    ) throws -> SidecarProcess {
        let recorder = [SidecarProcess.recorder, recordings] + child
        let ttl = ["--ttl", "\(Scenario.ttl.milliseconds)ms"]
        let sidecar = try SidecarProcess(
            node: node, lease: lease, databaseURL: environment == nil ? url(through: proxy) : nil,
            options: ttl + options, command: command ?? recorder, directory: directory, environment: environment ?? [:],
            asInit: asInit, launcher: launcher)
        sidecars.append(sidecar)
        // What a launcher limits waits for the processor as it should.
        if launcher.isEmpty { witness.watch(sidecar.process.pid) }
        return sidecar
    }

    // MARK: What is

    var recording: Recording { reader.read() }

    /// The newest tree that has at least so many living processes, `stopped` ones included.
    func livingTree() -> (sidecar: SidecarProcess, tree: RecordedTree)? {
        guard let tree = recording.trees.last, let sidecar = sidecars.first(where: { $0.node == tree.node }),
            isAlive(tree.id)
        else { return nil }
        return (sidecar, tree)
    }

    /// Any process of that tree is alive.
    func isAlive(_ tree: RecordedTree.ID) -> Bool { !processes(of: tree).isEmpty }

    /// The living processes of all the trees of that tree's epoch and instance.
    func processes(of tree: RecordedTree.ID) -> [RunningProcess] {
        ProcessTable.processes(with: [
            "SIDECAR_LEASE": lease, "SIDECAR_EPOCH": tree.epoch, "SIDECAR_INSTANCE": tree.instance,
        ])
    }

    // MARK: Waiting

    /// How often all processes are looked at. What is judged is dated by the recorders and the kernel.
    private static let look = Duration.milliseconds(30)

    /// Waits until one tree with all its members runs; says whose it is.
    func leader(
        after old: RecordedTree.ID? = nil, members: Int = 7, timeout: Duration = .seconds(30)
    ) throws -> (sidecar: SidecarProcess, tree: RecordedTree) {
        var found: (sidecar: SidecarProcess, tree: RecordedTree)?
        try eventually("a child runs\(old.map { " after \($0)" } ?? "")", timeout: timeout, every: Self.look) {
            found = livingTree()
            guard let tree = found?.tree else { return false }
            return tree.id != old && tree.processes.count >= members
        }
        return try #require(found)
    }

    /// Waits until the leader has just renewed, so that what follows does not race with the next renewal.
    /// - Returns: its deadline: when its child must be dead if it never renews again.
    @discardableResult
    func justRenewed(_ sidecar: SidecarProcess) throws -> Instant {
        let before = sidecar.readiness?.deadline
        var deadline: Instant?
        try eventually("\(sidecar.node) renews") {
            guard let readiness = sidecar.readiness, readiness.role == "leader" else { return false }
            deadline = readiness.deadline
            return readiness.deadline != before
        }
        return try #require(deadline)
    }

    /// Waits until nothing of that tree is left alive; calls `meanwhile` on every look.
    func gone(_ tree: RecordedTree.ID, meanwhile: () -> Void = {}) throws {
        try eventually("nothing of \(tree) is left", every: Self.look) {
            meanwhile()
            return !isAlive(tree)
        }
    }

    /// Waits until a tree other than `old` has run for a second, and checks that it is the only one then.
    @discardableResult
    func takeover(
        from old: RecordedTree, timeout: Duration = .seconds(30), sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> (sidecar: SidecarProcess, tree: RecordedTree) {
        let new = try leader(after: old.id, timeout: timeout)
        try steady(new.tree.id)
        let others = ProcessTable.processes(with: ["SIDECAR_LEASE": lease])
            .filter {
                // One that hops from process to process may be gone since the last look: it has no environment then.
                let environment = ProcessTable.environment(of: $0.pid)
                return !environment.isEmpty && !environment.contains("SIDECAR_INSTANCE=\(new.tree.id.instance)")
            }
        #expect(others.isEmpty, "left over besides \(new.tree.id)\n\(report)", sourceLocation: sourceLocation)
        return new
    }

    /// Waits until that tree has run for a second more.
    func steady(_ tree: RecordedTree.ID) throws {
        let start = recording.lastAlive(of: tree)
        try eventually("\(tree) runs steadily", every: Self.look) {
            guard let start, let last = recording.lastAlive(of: tree) else { return false }
            return last.since(start) >= .seconds(1)
        }
    }

    /// R2: the child is dead before anybody else could count its lease as run out, `deadline` being TTL - margin.
    func expectDead(
        _ tree: RecordedTree.ID, before deadline: Instant, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let last = try #require(recording.lastAlive(of: tree))
        let late = last.since(deadline)
        #expect(
            late < Scenario.margin,
            "\(tree) lived \(late) past its deadline, the margin is \(Scenario.margin)\n\(report)",
            sourceLocation: sourceLocation)
    }

    // MARK: The end

    private func judge(exempt: (Recording) -> Set<RecordedTree.ID>, _ sourceLocation: SourceLocation) {
        let recording = recording
        // To look at what a passing scenario did.
        if ProcessInfo.processInfo.environment["SIDECAR_TEST_TIMELINE"] != nil { print(report) }
        let overlaps = IntervalChecker.overlaps(in: recording, exempt: exempt(recording))
        #expect(overlaps.isEmpty, "two children at once: \(overlaps)\n\(report)", sourceLocation: sourceLocation)
        let epochs = IntervalChecker.epochsThatDoNotGrow(in: recording)
        #expect(epochs.isEmpty, "epochs must grow: \(epochs)\n\(report)", sourceLocation: sourceLocation)
        #expect(recording.nonsense.isEmpty, sourceLocation: sourceLocation)
        // A Swift trap, or a data race when SIDECAR_BINARY was built with --sanitize=thread.
        for word in ["Fatal error", "ThreadSanitizer"] {
            let traps = sidecars.filter { $0.log.contains(word) }
            #expect(traps.isEmpty, "\(word) in \(traps.map(\.node))\n\(report)", sourceLocation: sourceLocation)
        }
    }

    /// No session of a sidecar held anybody up.
    private func judgeSessions(_ sourceLocation: SourceLocation) {
        let (faults, sessionsSeen) = watcher.end()
        #expect(faults.isEmpty, "\(faults.joined(separator: "\n"))", sourceLocation: sourceLocation)
        #expect(
            sessionsSeen > 0, "the watcher saw no sidecar session: it proved nothing", sourceLocation: sourceLocation)
    }

    /// The timeline and the logs, for failure messages.
    var report: String {
        let logs = sidecars.map { sidecar in
            let end = sidecar.exit.map { "\($0)" } ?? "running"
            return "--- \(sidecar.node) (\(end)):\n" + String(sidecar.log.suffix(6000))
        }
        let left = ProcessTable.processes(with: ["SIDECAR_LEASE": lease]).map { "\($0)" }
        return (["", "now \(BootClock.now().nanoseconds)", recording.timeline, "alive: \(left)"] + logs)
            .joined(separator: "\n")
    }

    private func close() {
        for sidecar in sidecars { sidecar.destroy() }
        for proxy in proxies { proxy.close() }
        try? FileManager.default.removeItem(atPath: directory)
    }
}

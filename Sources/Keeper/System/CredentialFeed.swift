// The connection settings for the next connect, and what may change them while the keeper runs: a file that is read
// before each connect, a command that is run again after a refused login. Nothing here blocks: readings run on threads
// of their own, one at a time, and what was read last counts until something else has been read.

import Clock
import Helpers
import Postgres
import Settings
import Text

/// Where the keeper's next session gets its credentials.
struct CredentialFeed {
    /// For the log.
    enum News: Equatable {
        case changed(origin: String)
        case problem(String)
    }

    private static let firstPause = Duration.seconds(2)
    private static let longestPause = Duration.seconds(60)

    private let source: DatabaseSource
    private let startReading: @Sendable () throws -> SourceReading?
    private(set) var settings: ConnectionSettings
    private var reading: SourceReading?
    /// The command is not run before: it has just been, and of no use.
    private var notBefore: Instant?
    private var pause = firstPause
    private var news: [News] = []

    init(_ source: DatabaseSource, helpers: HelperPrograms) {
        self.init(source) { try source.startReading(helpers) }
    }

    /// `startReading` is the source's own, but in tests.
    init(_ source: DatabaseSource, startReading: @escaping @Sendable () throws -> SourceReading?) {
        self.source = source
        self.startReading = startReading
        settings = source.settings
    }

    /// What poll(2) shall watch; nil when nothing is being read.
    var descriptor: Int32? { reading?.descriptor }
    var isReading: Bool { reading != nil }

    /// Starts what has to be read before a connect.
    /// - Returns: whether something is being read, so that the connect should wait for it, within limits.
    mutating func prepare() -> Bool {
        if case .file = source.renewal { start() }
        return isReading
    }

    /// A server refused the login: runs the command again, unless it runs or has just run.
    mutating func loginRefused(at now: Instant) {
        guard source.renewal == .command, reading == nil, now >= notBefore ?? now else { return }
        notBefore = now + pause
        pause = min(pause * 2, Self.longestPause)
        start()
    }

    /// The credentials are right.
    mutating func loggedIn() {
        pause = Self.firstPause
        notBefore = nil
    }

    /// The reading takes too long for this connect.
    mutating func overdue(after limit: Duration) {
        news.append(
            .problem(
                "\(source.origin) is not read within \(Durations.text(limit)): connecting with what was read last"))
    }

    /// Takes what has been read, if there is anything, and what to tell of it.
    mutating func takeNews() -> [News] {
        defer { news = [] }
        guard let answer = reading?.answer else { return news }
        reading = nil
        switch answer {
        case .success(let new):
            if new != settings {
                settings = new
                news.append(.changed(origin: source.origin))
            }
        case .failure(let failure): news.append(.problem("\(failure.message); going on with what was read last"))
        }
        return news
    }

    private mutating func start() {
        guard reading == nil else { return }
        do {
            reading = try startReading()
        } catch let failure as Failure {
            news.append(.problem(failure.message))
        } catch {
            news.append(.problem("cannot read \(source.origin): \(error)"))
        }
    }
}

// libpq, seen through Swift types: the only file that calls its connection functions, so that the promise "nothing here
// blocks" can be checked by reading it. Not called, because they wait: PQexec, PQconnectdb, PQreset, PQgetResult while
// PQisBusy, PQputCopyData, PQcancel.

import CLibPQ
import Glibc
import Text

/// One libpq connection, in non-blocking mode from its first moment. Not thread-safe, and not meant to be.
final class LibPQConnection {
    /// What a connection attempt waits for next (PQconnectPoll).
    enum Progress { case reading, writing, connected, failed }
    /// Whether everything sent has left for the kernel (PQflush).
    enum Flush { case done, pending, failed }

    private let connection: OpaquePointer
    private let notices = Notices()

    /// Starts to connect (PQconnectStartParams). The parameters must hold one numeric `hostaddr` or one socket
    /// directory: with a name libpq would look it up here and now.
    ///
    /// Nil if memory is short. Any other failure shows in `isBad`.
    init?(_ parameters: [String: String]) {
        // An encrypted key without `sslpassword` is an error then. Otherwise OpenSSL would ask for its password on
        // the terminal and wait, or read input that is meant for the command.
        PQsetSSLKeyPassHook_OpenSSL(PQdefaultSSLKeyPassHook_OpenSSL)
        let pairs = Array(parameters)
        let started = withCStrings(pairs.map { $0.key }) { keywords in
            withCStrings(pairs.map { $0.value }) { values in PQconnectStartParams(keywords, values, 0) }
        }
        guard let started else { return nil }
        connection = started
        // Verbose, so that the text of a refused connection holds its SQLSTATE: libpq has no other way to learn it.
        PQsetErrorVerbosity(connection, PQERRORS_VERBOSE)
        // A server that ends an idle session says why in a message libpq treats as a notice: keep it. The context is
        // unretained: libpq uses it only inside calls made by this object, which keeps it alive.
        PQsetNoticeReceiver(
            connection,
            { context, result in
                guard let context, let result else { return }
                let notices = Unmanaged<Notices>.fromOpaque(context).takeUnretainedValue()
                let error = ServerError(result: result)
                if error.endsSession { notices.fatal = error }
            }, Unmanaged.passUnretained(notices).toOpaque())
        // Set early. Otherwise libpq would wait for a full socket buffer while connecting.
        PQsetnonblocking(connection, 1)
    }

    deinit { PQfinish(connection) }

    /// Tells the kernel to drop the connection. So nothing that follows, above all PQfinish's goodbye message, can
    /// wait for the server.
    func abandon() {
        let socket = PQsocket(connection)
        if socket >= 0 { shutdown(socket, Int32(SHUT_RDWR)) }
    }

    /// The socket, or -1. It may be another one after each `pollConnect()`.
    var socket: Int32 { PQsocket(connection) }
    /// Whether the connection has failed for good.
    var isBad: Bool { PQstatus(connection) == CONNECTION_BAD }
    /// libpq's text for the last failure, several lines of it.
    var errorMessage: String { String(cString: PQerrorMessage(connection)) }
    /// The password in use, to hide it in what the server says; nil where it is also the user's or the database's
    /// name, as those are shown.
    var secret: String? {
        func text(_ value: UnsafeMutablePointer<CChar>?) -> String { value.map { String(cString: $0) } ?? "" }
        let password = text(PQpass(connection))
        return [text(PQuser(connection)), text(PQdb(connection))].contains(password) ? nil : password
    }
    /// What the server said before it closed the session, if it said anything.
    var farewell: ServerError? { notices.fatal }
    /// The server process (PQbackendPID).
    var backendPID: Int32 { PQbackendPID(connection) }
    /// 150018 for 15.18 (PQserverVersion).
    var serverVersion: Int { Int(PQserverVersion(connection)) }
    /// Whether the connection is encrypted (PQsslInUse).
    var isTLS: Bool { PQsslInUse(connection) != 0 }

    /// The next step of connecting. Call it only when the socket is ready for what the last step waited for: before
    /// that, libpq takes a connect(2) still under way for done.
    func pollConnect() -> Progress {
        switch PQconnectPoll(connection) {
        case PGRES_POLLING_READING: .reading
        case PGRES_POLLING_WRITING: .writing
        case PGRES_POLLING_OK: .connected
        default: .failed
        }
    }

    /// Whether the socket is ready for `events` right now (poll(2) with no wait).
    func isReady(_ events: Int16) -> Bool {
        var descriptor = pollfd(fd: socket, events: events, revents: 0)
        return descriptor.fd >= 0 && poll(&descriptor, 1, 0) > 0
    }

    /// Queues a query; false when the connection has failed. Flush afterwards.
    func send(_ query: Query) -> Bool {
        switch query {
        case .script(let script): PQsendQuery(connection, script) == 1
        case .statement(let sql):
            withCStrings(sql.parameters.map(\.value)) { values in
                sql.parameters.map { Oid($0.type.rawValue) }.withUnsafeBufferPointer { types in
                    let (count, types) = (Int32(types.count), types.baseAddress)
                    return PQsendQueryParams(connection, sql.text, count, types, values, nil, nil, 0) == 1
                }
            }
        }
    }

    /// Passes queued data to the kernel, as much as it takes.
    func flush() -> Flush {
        switch PQflush(connection) {
        case 0: .done
        case 1: .pending
        default: .failed
        }
    }

    /// Reads what has arrived; false when the connection has failed. What arrived before the failure can still be read.
    func consumeInput() -> Bool {
        // With TLS, bytes may wait inside the TLS library where poll(2) cannot see them: libpq reads a decrypted
        // record only as far as its buffer has room, which is at least 8 kB. PostgreSQL's own records fit. A proxy's
        // may have 16 kB, so three more reads leave none behind.
        var rounds = 0
        repeat {
            guard PQconsumeInput(connection) == 1 else { return false }
            // Parses the input, which makes room.
            _ = PQisBusy(connection)
            rounds += 1
        } while rounds < 64 && isReady(Int16(POLLIN))
        for _ in 0..<(isTLS ? 3 : 0) {
            guard PQconsumeInput(connection) == 1 else { return false }
            _ = PQisBusy(connection)
        }
        return true
    }

    /// The next result of the running query, if it can be had without waiting.
    func nextResult() -> Reply {
        guard PQisBusy(connection) == 0 else { return .notYet }
        guard let result = PQgetResult(connection) else { return .end }
        defer { PQclear(result) }
        switch PQresultStatus(result) {
        case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY, PGRES_SINGLE_TUPLE:
            return .result(QueryResult(result: result))
        case PGRES_COPY_IN, PGRES_COPY_OUT, PGRES_COPY_BOTH:
            return .unsupported("COPY to or from the client is not supported")
        default:
            return .error(ServerError(result: result))
        }
    }

    /// What `nextResult()` found.
    enum Reply {
        case notYet
        case end
        case result(QueryResult)
        case error(ServerError)
        case unsupported(String)
    }

    /// The next notification that has arrived (PQnotifies).
    func nextNotification() -> (channel: String, payload: String)? {
        guard let notification = PQnotifies(connection) else { return nil }
        defer { PQfreemem(notification) }
        return (
            String(cString: notification.pointee.relname),
            notification.pointee.extra.map { String(cString: $0) } ?? ""
        )
    }
}

/// What libpq's notice receiver writes to.
private final class Notices {
    /// The error with which the server ended the session.
    var fatal: ServerError?
}

/// Calls `body` with a null-terminated array of C strings that live as long as the call.
func withCStrings<Result>(
    _ strings: [String?], _ body: (UnsafePointer<UnsafePointer<CChar>?>?) -> Result
) -> Result {
    let copies = strings.map { $0.flatMap { strdup($0) } }
    defer { for copy in copies { free(copy) } }
    let pointers = copies.map { UnsafePointer($0) } + [nil]
    return pointers.withUnsafeBufferPointer { body($0.baseAddress) }
}

extension ServerError {
    /// The error fields of a result or a notice.
    init(result: OpaquePointer) {
        func field(_ code: Character) -> String? {
            guard let ascii = code.asciiValue, let text = PQresultErrorField(result, Int32(ascii)) else { return nil }
            return String(cString: text)
        }
        // V is the severity untranslated; libpq's own errors carry no fields at all.
        self.init(
            severity: field("V") ?? field("S") ?? "ERROR", sqlState: field("C") ?? "",
            message: field("M") ?? oneLine(String(cString: PQresultErrorMessage(result))),
            detail: field("D"), hint: field("H"))
    }
}

extension QueryResult {
    /// The rows of a result, copied out of libpq's memory.
    init(result: OpaquePointer) {
        let width = PQnfields(result)
        let columns = (0..<width).map { column in PQfname(result, column).map { String(cString: $0) } ?? "" }
        let rows = (0..<PQntuples(result)).map { row in
            (0..<width).map { column -> String? in
                guard PQgetisnull(result, row, column) == 0, let value = PQgetvalue(result, row, column) else {
                    return nil
                }
                return String(cString: value)
            }
        }
        self.init(columns: columns, rows: rows, affectedRows: PQcmdTuples(result).flatMap { Int(String(cString: $0)) })
    }
}

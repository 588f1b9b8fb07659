// What a server, libpq or a table says, before somebody sees it: one line, of bounded length, without what a terminal obeys
// and without the password.

import Foundation
import Testing

@testable import Postgres

@Suite struct ServerWordsTests {
    private let nasty = "a\u{1B}[2Jb\u{7}c\u{9B}d\r\ne\u{2028}f\u{85}g\u{0}h\u{7F}\t \n"
    private let cleaned = "a[2Jbcd e f gh"

    @Test func controlCharactersAndLineBreaksGo() {
        #expect(
            ServerError(sqlState: "X\u{1B}", message: nasty, detail: nasty, hint: nasty).description
                == "\(cleaned) (SQLSTATE X); detail: \(cleaned); hint: \(cleaned)")
        let message = ConnectMessage(
            "connection to server at \"h\", port 1 failed: FATAL:  XX000: \u{1B}]0;t\u{7}\u{9B}1m\n")
        #expect(message.reason == "]0;t1m (SQLSTATE XX000)")
    }

    @Test func whatIsTooLongIsCut() {
        let long = String(repeating: "\u{E4} ", count: 400_000)
        let error = ServerError(sqlState: "XX000", message: long, detail: long, hint: "the hint")
        #expect(error.description.utf8.count < 2100)
        #expect(error.description.contains("(SQLSTATE XX000)") && error.description.hasSuffix("hint: the hint"))
        let one = ConnectMessage("connection to server at \"h\", port 1 failed: FATAL:  28P01: \(long)")
        #expect(one.reason.utf8.count < 1100 && one.reason.hasSuffix("... (SQLSTATE 28P01)") && one.isAuthentication)
        let lines = (0..<10_000).map { "line \($0)\n" }.joined()
        #expect(ConnectMessage(lines).reason.utf8.count <= 2000)
    }

    @Test func aPoolersRefusalOfALoginIsOne() {
        #expect(ConnectMessage("FATAL:  08P01: SASL authentication failed\n").isAuthentication)
        #expect(!ConnectMessage("FATAL:  08P01: server conn crashed?\n").isAuthentication)
        #expect(!ConnectMessage("FATAL:  53300: authentication failed to be tried\n").isAuthentication)
    }

    @Test func thePasswordThatAServerRepeatsIsHidden() {
        let said = "FATAL:  28P01: login failed for u with password \"S3cretPw\"\n"
        #expect(
            ConnectMessage(said, hiding: "S3cretPw").reason
                == "login failed for u with password \"***\" (SQLSTATE 28P01)")
        #expect(ConnectMessage("no\u{301} S3cretPw\u{301}", hiding: "S3cretPw").reason == "no\u{301} ***\u{301}")
        // One that is a part of the code changes nothing about it; a short one stays, and so does everything around it.
        #expect(ConnectMessage(said, hiding: "28P01").sqlState == "28P01")
        #expect(ConnectMessage(said, hiding: "u").reason.hasPrefix("login failed for u with password"))
        #expect(ConnectMessage(said, hiding: "").reason.hasPrefix("login failed for u with password"))
    }

    @Test func aServerThatRepeatsThePasswordShowsItToNobody() throws {
        let port = try refuseOnce("no\u{1B}[2J \u{9B}entry for u with \"S3cretPw\"\r\nnor with 'S3cretPw'")
        let session = try open("host=127.0.0.1 port=\(port) user=u dbname=d password=S3cretPw sslmode=disable")
        let failure = try failure(session)
        #expect(failure.isAuthentication)
        #expect("\(failure)".contains("no[2J entry for u with \"***\""), "\(failure)")
        #expect(!"\(failure)".contains("S3cretPw") && !String(reflecting: failure).contains("S3cretPw"))
        // What is shown anyway is not hidden for being the password, too.
        let other = try refuseOnce("no entry for airflow")
        let same = try open("host=127.0.0.1 port=\(other) user=airflow dbname=d password=airflow sslmode=disable")
        #expect("\(try PostgresTests.failure(same))".contains("no entry for airflow"))
    }
}

/// The port of a server that answers one client's first message with this error.
private func refuseOnce(_ message: String) throws -> UInt16 {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    try withUnsafeMutableBytes(of: &address) { bytes in
        let pointer = bytes.assumingMemoryBound(to: sockaddr.self).baseAddress
        guard bind(listener, pointer, length) == 0, listen(listener, 1) == 0,
            getsockname(listener, pointer, &length) == 0
        else { throw TestFailure(description: "no server: errno \(errno)") }
    }
    let fields = Array("SFATAL\0VFATAL\0C28P01\0M\(message)\0\0".utf8)
    let size = withUnsafeBytes(of: UInt32(fields.count + 4).bigEndian) { Array($0) }
    let answer = [UInt8(ascii: "E")] + size + fields
    Thread.detachNewThread {
        let client = accept(listener, nil, nil)
        var request = [UInt8](repeating: 0, count: 4096)
        _ = read(client, &request, request.count)
        _ = write(client, answer, answer.count)
        close(client)
        close(listener)
    }
    return UInt16(bigEndian: address.sin_port)
}

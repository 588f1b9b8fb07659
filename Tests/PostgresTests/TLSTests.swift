// TLS: required, verified, and against the host's name although the address was passed beside it.

import Foundation
import TestSupport
import Testing

@testable import Postgres

@Suite struct TLSTests {
    /// A server whose certificate, its own authority, is for db.example.
    static let server = Result {
        let server = try PrivatePostgres(
            settings: ["ssl": "on", "ssl_cert_file": "../cert.pem", "ssl_key_file": "../key.pem"])
        let directory = server.directory
        try run([
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
            "2",
            "-subj", "/CN=db.example", "-addext", "subjectAltName=DNS:db.example", "-keyout", directory + "/key.tmp",
            "-out", directory + "/cert.tmp",
        ])
        for name in ["key", "cert"] {
            let text = try String(contentsOfFile: "\(directory)/\(name).tmp", encoding: .utf8)
            try server.write(text, to: "\(name).pem")
        }
        try server.start()
        return server
    }

    private let server: PrivatePostgres
    private let resolver = tableResolver(["db.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]])
    init() throws { server = try Self.server.get() }

    private func url(_ host: String, _ mode: String) -> String {
        "postgresql://postgres@\(host):\(server.port)/postgres?sslmode=\(mode)&sslrootcert=\(server.directory)/cert.pem"
    }

    @Test func encryptsWhenAsked() throws {
        #expect(try connected(url("127.0.0.1", "disable"), resolver: resolver).isTLS == false)
        let required = try connected(
            "postgresql://postgres@127.0.0.1:\(server.port)/postgres?sslmode=require&sslrootcert=/nonexistent")
        #expect(required.isTLS == true)
    }

    @Test func verifiesTheNameWhoseAddressWasLookedUp() throws {
        let right = try connected(url("db.example", "verify-full"), resolver: resolver)
        #expect(right.isTLS == true && right.peer == "db.example:\(server.port) (127.0.0.1)")
        let wrong = try failure(open(url("other.example", "verify-full"), resolver: resolver))
        #expect(wrong.description.contains("does not match host name \"other.example\""), "\(wrong)")
        #expect(try connected(url("other.example", "verify-ca"), resolver: resolver).isTLS == true)
    }

    /// OpenSSL would ask for the password, and read what is meant for the command.
    @Test func anEncryptedKeyWithoutAPasswordFailsAndAsksNobody() throws {
        let key = server.directory + "/encrypted.tmp"
        try run([
            "openssl", "ec", "-aes128", "-passout", "pass:secret", "-in", server.directory + "/key.tmp", "-out", key,
        ])
        chmod(key, 0o600)
        var ends: [Int32] = [-1, -1]
        #expect(pipe(&ends) == 0)
        let before = dup(STDIN_FILENO)
        dup2(ends[0], STDIN_FILENO)
        defer {
            dup2(before, STDIN_FILENO)
            for file in ends + [before] { close(file) }
        }
        #expect(write(ends[1], "line\n", 5) == 5)
        close(ends[1])
        let lost = try failure(
            open(
                "postgresql://postgres@127.0.0.1:\(server.port)/postgres?sslmode=require&sslrootcert=/nonexistent"
                    + "&sslcert=\(server.directory)/cert.tmp&sslkey=\(key)"))
        #expect(lost.description.contains("private key"), "\(lost)")
        var left: Int32 = 0
        #expect(ioctl(STDIN_FILENO, UInt(FIONREAD), &left) == 0 && left == 5)
    }

    @Test func aServerWithoutTLSIsRefused() throws {
        let plain = try Shared.server.get()
        let lost = try failure(open("postgresql://postgres@127.0.0.1:\(plain.port)/postgres?sslmode=require"))
        #expect(lost.description.contains("server does not support SSL"), "\(lost)")
        // The default, prefer, falls back within the same attempt, on another socket.
        #expect(try connected(plain.url + "?sslmode=prefer").isTLS == false)
    }

    @Test func largeResultsArriveWholeThroughTLS() throws {
        let session = try connected(url("db.example", "verify-full"), resolver: resolver)
        // Sizes around a TLS record's 16 kB, where bytes can get stuck between libpq and the TLS library.
        for size in [1, 8_000, 16_000, 16_384, 17_000, 40_000, 3_000_000] {
            let result = try session.query(
                Query("SELECT repeat('x', \(size)::int) AS text"), limit: .seconds(60))
            #expect(result.string(0, "text")?.utf8.count == size)
        }
        let rows = try session.query(
            Query("SELECT repeat('x', 900) FROM generate_series(1, 20000)"), limit: .seconds(60))
        #expect(rows.rows.count == 20_000)
    }
}

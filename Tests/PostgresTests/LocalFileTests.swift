// Files that libpq reads by itself: what is none must not hold up the loop, nor have libpq write past the log.

import Foundation
import TestSupport
import Testing

@testable import Postgres

@Suite struct LocalFileTests {
    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = try makeTemporaryDirectory("sidecar-files")
        defer { try? FileManager.default.removeItem(atPath: folder) }
        #expect(mkfifo(folder + "/pipe", 0o600) == 0)
        try Data("x:1:d:u:p\n".utf8).write(to: URL(fileURLWithPath: folder + "/file"))
        chmod(folder + "/file", 0o600)
        try body(folder)
    }

    @Test(arguments: ["sslrootcert", "sslcert", "sslcrl"]) func aCertificateThatIsAPipeIsRefused(_ keyword: String)
        throws
    {
        try withFolder { folder in
            let failure = #expect(throws: SettingsError.self) {
                try ConnectionSettings("host=h user=u \(keyword)=\(folder)/pipe")
            }
            #expect(failure?.reason.contains(keyword) == true && failure?.reason.contains(folder) == false)
            _ = try ConnectionSettings("host=h user=u \(keyword)=\(folder)/file")
            _ = try ConnectionSettings("host=h user=u \(keyword)=\(folder)/absent")
            // Nobody reads it then.
            _ = try ConnectionSettings("host=h user=u sslmode=disable \(keyword)=\(folder)/pipe")
        }
    }

    @Test func aPasswordFileThatLibpqWouldOnlyComplainAboutIsSaidOnce() throws {
        try withFolder { folder in
            func settings(_ more: String) throws -> ConnectionSettings {
                try ConnectionSettings("host=h user=u passfile=\(folder)/\(more)")
            }
            #expect(try settings("file").passwordFileProblem == nil)
            #expect(try settings("file").values["passfile"] == folder + "/file")
            #expect(try settings("absent").passwordFileProblem == nil)
            #expect(try settings("pipe password=p").passwordFileProblem == nil)
            chmod(folder + "/file", 0o644)
            for name in ["file", "pipe"] {
                let unusable = try settings(name)
                #expect(unusable.passwordFileProblem?.contains("\(folder)/\(name)") == true)
                #expect(unusable.values["passfile"] != "\(folder)/\(name)")
            }
        }
    }

    @Test(arguments: ["nonsense", "db.example", "postgresql://u:hunter2@h/d"])
    func anAddressThatIsNoneIsRefusedUnquoted(_ address: String) throws {
        let failure = #expect(throws: SettingsError.self) {
            try ConnectionSettings("host=h user=u hostaddr=\(address)")
        }
        #expect(failure?.reason.contains("hostaddr") == true && failure?.reason.contains(address) == false)
        for address in ["127.0.0.1", "::1", "127.0.0.1,::1"] {
            _ = try ConnectionSettings("host=\(address.contains(",") ? "a,b" : "a") user=u hostaddr=\(address)")
        }
    }
}

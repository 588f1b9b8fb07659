// What libpq reads from disk by itself, looked at before it does. It opens a pipe as readily as a file and waits for a
// writer, in the middle of a connection attempt, where no deadline reaches.

import CLibPQ
import Glibc

/// The largest file that libpq may be led to. Certificates of all the world's authorities are a few hundred kB.
private let largest = 10 << 20

private enum LocalFile {
    case absent, usable
    case unusable(mode: mode_t)

    init(_ path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else {
            self = .absent
            return
        }
        let isFile = status.st_mode & S_IFMT == S_IFREG && status.st_size <= largest
        self = isFile ? .usable : .unusable(mode: status.st_mode)
    }

    static func isUnusable(_ path: String) -> Bool { if case .unusable = LocalFile(path) { true } else { false } }
}

private func variable(_ name: String) -> String? {
    guard let value = getenv(name), value.pointee != 0 else { return nil }
    return String(cString: value)
}

private func atHome(_ path: String) -> String? { variable("HOME").map { "\($0)/\(path)" } }

/// Refuses a service file that is none.
func examineServiceFile(_ given: [String: String]) throws(SettingsError) {
    guard given["service"] != nil || variable("PGSERVICE") != nil else { return }
    let paths = [
        variable("PGSERVICEFILE") ?? atHome(".pg_service.conf"),
        variable("PGSYSCONFDIR").map { "\($0)/pg_service.conf" },
    ]
    for case let path? in paths where LocalFile.isUnusable(path) {
        throw SettingsError(reason: "the service file is not a file, or larger than 10 MB")
    }
}

/// The password file that libpq would look into, if it would say of it, at every attempt and past every log, that it does
/// not. Nil where there is none, it will do, or a password is given anyway.
func unusablePasswordFile(_ given: [String: String]) -> String? {
    guard given["password"] == nil, variable("PGPASSWORD") == nil,
        let path = given["passfile"] ?? variable("PGPASSFILE") ?? atHome(".pgpass")
    else { return nil }
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    let isOurs = status.st_mode & S_IFMT == S_IFREG && status.st_mode & 0o077 == 0 && status.st_size <= largest
    return isOurs ? nil : path
}

/// Refuses certificate files that are none.
func examineCertificates(_ values: [String: String]) throws(SettingsError) {
    guard values["sslmode"] != "disable" else { return }
    let files = [("sslrootcert", "root.crt"), ("sslcert", "postgresql.crt"), ("sslcrl", "root.crl")]
    for (keyword, name) in files {
        guard let path = values[keyword] ?? atHome(".postgresql/\(name)") else { continue }
        guard !LocalFile.isUnusable(path) else {
            throw SettingsError(reason: "\(keyword) leads to what is not a file, or is larger than 10 MB")
        }
    }
}

/// Makes an encrypted key without `sslpassword` an error. OpenSSL would ask for its password on the terminal, and wait, or read
/// what is meant for the command.
let keysAskNobody: Void = PQsetSSLKeyPassHook_OpenSSL(PQdefaultSSLKeyPassHook_OpenSSL)

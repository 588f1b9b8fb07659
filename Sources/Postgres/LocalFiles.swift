// What libpq reads from disk by itself, looked at before it does. It opens a pipe as readily as a file and waits for a
// writer, in the middle of a connection attempt, where no deadline reaches.

import Glibc

/// The largest file that libpq may be led to. Certificates of all the world's authorities are a few hundred kB.
private let largest = 10 << 20

/// Whether something is there that is no file to read: a pipe, a folder, a device, or far too much.
private func isNoFile(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && (status.st_mode & S_IFMT != S_IFREG || status.st_size > largest)
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
    for case let path? in paths where isNoFile(path) {
        throw SettingsError(reason: "the service file is not a regular file, or it is larger than 10 MB")
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
    return isNoFile(path) || status.st_mode & 0o077 != 0 ? path : nil
}

/// Refuses certificate files that are none.
func examineCertificates(_ values: [String: String]) throws(SettingsError) {
    guard values["sslmode"] != "disable" else { return }
    let files = [("sslrootcert", "root.crt"), ("sslcert", "postgresql.crt"), ("sslcrl", "root.crl")]
    for (keyword, name) in files {
        guard let path = values[keyword] ?? atHome(".postgresql/\(name)") else { continue }
        guard !isNoFile(path) else {
            throw SettingsError(
                reason: "\(keyword) names something that is not a regular file, or a file larger than 10 MB")
        }
    }
}

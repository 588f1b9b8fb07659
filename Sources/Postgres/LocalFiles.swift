// Checks the files that libpq reads by itself, before libpq does. libpq opens a pipe like a file and waits for a
// writer, in the middle of a connection attempt, where no deadline helps.

import Glibc

/// The largest file that libpq may read. The certificates of all known authorities take a few hundred kB.
private let largest = 10 << 20

/// Whether the path is there but not a readable file: a pipe, a folder, a device, or far too large.
private func isNoFile(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && (status.st_mode & S_IFMT != S_IFREG || status.st_size > largest)
}

private func variable(_ name: String) -> String? {
    guard let value = getenv(name), value.pointee != 0 else { return nil }
    return String(cString: value)
}

private func atHome(_ path: String) -> String? { variable("HOME").map { "\($0)/\(path)" } }

/// Refuses a service file that is not a regular file.
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

/// The password file that libpq would try to use and complain about, at every attempt and past every log. Nil if
/// there is none, if it can be used, or if a password is given anyway.
func unusablePasswordFile(_ given: [String: String]) -> String? {
    guard given["password"] == nil, variable("PGPASSWORD") == nil,
        let path = given["passfile"] ?? variable("PGPASSFILE") ?? atHome(".pgpass")
    else { return nil }
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    return isNoFile(path) || status.st_mode & 0o077 != 0 ? path : nil
}

/// Refuses certificate files that are not regular files.
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

// Targets `database` and `airflow`: where the database is, as somebody wrote it. Whatever that is, it ends in settings or in
// one line; settings mean the same when written down and read again; and a password, marked here so that it can be
// recognised, is shown in neither.

import Glibc
import Postgres

@testable import Settings
@testable import Text

/// Libpq's URLs and keywords, in our own setting.
func fuzzDatabase(_ input: UnsafeRawBufferPointer) {
    var bytes = Bytes(input)
    let form = bytes.choice(of: 6)
    let (before, inside, after) = (bytes.text(), bytes.text(), bytes.remainingText())
    let secret = Secret(inside)
    switch form {
    case 0: examine(before + after)
    case 1: examine(secret, behind: before) { "postgresql://\(before):\($0)@\(after)" }
    case 2: examine(secret, behind: before) { "\(before)password=\($0)\(after)" }
    case 3: examine(secret, behind: before) { "\(before)password='\($0)'\(after)" }
    case 4: examine(secret, behind: before) { "postgresql://\(before)?password=\($0)\(after)" }
    default: passwordsArrive(Array(input.dropFirst()))
    }
}

/// SQLAlchemy's URLs, as Airflow has them, and the splitting of its `..._CMD` settings.
func fuzzAirflow(_ input: UnsafeRawBufferPointer) {
    var bytes = Bytes(input)
    let form = bytes.choice(of: 4)
    let scheme = bytes.pick(["postgresql+psycopg2", "postgresql+asyncpg", "postgres", "postgresql", "mysql"])
    let (before, inside, after) = (bytes.text(), bytes.text(), bytes.remainingText())
    let secret = Secret(inside)
    let name = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
    switch form {
    case 0: examine(before + after, variable: name)
    case 1: examine(secret, behind: before, variable: name) { "\(scheme)://\(before):\($0)@\(after)" }
    case 2: examine(secret, behind: before, variable: name) { "\(before)://u:\($0)@\(after)" }
    default: wordsSplit(before, inside, after)
    }
}

/// A password that can be recognised wherever it comes out.
private struct Secret {
    /// Two, as one of them may have got into what is shown otherwise: libFuzzer finds it in comparisons.
    static let marks = ["qZ7Rk9", "Xw4Jv8"]
    private let head: Substring
    private let tail: Substring

    /// With something around the mark that may well be left unescaped.
    init(_ around: String) {
        let middle = around.index(around.startIndex, offsetBy: around.count / 2)
        (head, tail) = (around[..<middle], around[middle...])
    }

    func text(_ mark: String) -> String { head + mark + tail }

    /// What stands before the mark says in so many words that a part follows that is shown. Read as libpq does: with blanks
    /// before a '=', and with %XX in the names of an URL's parameters.
    func isShown(behind before: String) -> Bool {
        var prefix: [UInt8] = []
        for byte in (before + head).utf8 where isspace(Int32(byte)) == 0 {
            prefix.append(byte)
            if prefix.count > 2, prefix[prefix.count - 3] == UInt8(ascii: "%"),
                let decoded = UInt8(String(decoding: prefix.suffix(2), as: UTF8.self), radix: 16)
            {
                prefix.replaceSubrange((prefix.count - 3)..., with: [decoded])
            }
        }
        return ["host=", "hostaddr=", "user=", "dbname="].contains { prefix.contains($0.utf8) }
    }
}

/// The password must not come out, whichever of the marks it has.
private func examine(
    _ secret: Secret, behind before: String, variable: String = "SIDECAR_DATABASE_URL", _ url: (String) -> String
) {
    let shown = Secret.marks.map { mark in
        examine(url(secret.text(mark)), variable: variable).filter { holds($0, mark) }
    }
    demand(
        shown.contains { $0.isEmpty } || secret.isShown(behind: before),
        "the password is hidden: \(shown.joined().joined(separator: "; "))")
}

/// - Returns: all that is shown of the URL.
@discardableResult
private func examine(_ url: String, variable: String = "SIDECAR_DATABASE_URL") -> [String] {
    do {
        let source = try DatabaseSource.find(option: nil, environment: Environment([variable: url]))
        let settings = source.settings
        var dumped = ""
        dump(settings, to: &dumped)
        // A host costs one comma.
        demandOneLine(settings.description, longest: 20_000)
        demandSameAgain(settings)
        return [settings.description, String(reflecting: settings), dumped]
    } catch let failure as Failure {
        demand(failure.code == Failure.configuration, "exit code 78, not \(failure.code)")
        demandOneLine(failure.message)
        return [failure.message]
    } catch {
        demand(false, "a Failure, not \(error)")
        return []
    }
}

/// A percent-encoded password reaches libpq byte by byte, or is refused.
private func passwordsArrive(_ password: [UInt8]) {
    let password = password.filter { $0 != 0 }
    let encoded = password.map { byte in
        let digits = String(byte, radix: 16)
        return "%" + (digits.count < 2 ? "0" : "") + digits
    }.joined()
    for url in ["postgresql://u:\(encoded)@h/d", "postgresql+psycopg2://u:\(encoded)@h/d?ssl=require"] {
        guard let source = try? DatabaseSource.find(option: url, environment: Environment([:])) else { continue }
        demand(source.settings.keptPassword == password, "the password \(password) arrives as it was written")
    }
}

/// Quoted words come out of a command line as they went in.
private func wordsSplit(_ words: String...) {
    _ = ShellWords.split(words.joined())
    func split(_ quoted: [String]) -> [[UInt8]]? {
        ShellWords.split(quoted.joined(separator: " \t"))?.map { Array($0.utf8) }
    }
    let expected = words.map { Array($0.utf8) }
    let single = words.map { word in
        "'" + word.unicodeScalars.map { $0 == "'" ? "'\\''" : String($0) }.joined() + "'"
    }
    demand(split(single) == expected, "\(words) single-quoted")
    let double = words.map { word in
        "\"" + word.unicodeScalars.map { $0 == "\"" || $0 == "\\" ? "\\\($0)" : String($0) }.joined() + "\""
    }
    demand(split(double) == expected, "\(words) double-quoted")
}

// Targets `database` and `airflow`: where the database is, as somebody wrote it. Whatever that is, it ends in settings or in
// one line; settings mean the same when written down and read again; and a password, marked here so that it can be
// recognised, is shown in neither.

import Postgres

@testable import Sidecar

/// Libpq's URLs and keywords, in our own setting.
func fuzzDatabase(_ input: UnsafeRawBufferPointer) {
    var bytes = Bytes(input)
    let form = bytes.choice(of: 6)
    let (before, inside, after) = (unmarked(bytes.text()), unmarked(bytes.text()), unmarked(bytes.remainingText()))
    let secret = Secret(inside)
    switch form {
    case 0: examine(before + after, hiding: nil)
    case 1: examine("postgresql://\(before):\(secret.text)@\(after)", hiding: secret.behind(before))
    case 2: examine("\(before)password=\(secret.text)\(after)", hiding: secret.behind(before))
    case 3: examine("\(before)password='\(secret.text)'\(after)", hiding: secret.behind(before))
    case 4: examine("postgresql://\(before)?password=\(secret.text)\(after)", hiding: secret)
    default: passwordsArrive(Array(input.dropFirst()))
    }
}

/// SQLAlchemy's URLs, as Airflow has them, and the splitting of its `..._CMD` settings.
func fuzzAirflow(_ input: UnsafeRawBufferPointer) {
    var bytes = Bytes(input)
    let form = bytes.choice(of: 4)
    let scheme = bytes.pick(["postgresql+psycopg2", "postgresql+asyncpg", "postgres", "postgresql", "mysql"])
    let (before, inside, after) = (unmarked(bytes.text()), unmarked(bytes.text()), unmarked(bytes.remainingText()))
    let secret = Secret(inside)
    let name = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
    switch form {
    case 0: examine(before + after, hiding: nil, variable: name)
    case 1: examine("\(scheme)://\(before):\(secret.text)@\(after)", hiding: secret.behind(before), variable: name)
    case 2: examine("\(before)://u:\(secret.text)@\(after)", hiding: secret, variable: name)
    default: wordsSplit(before, inside, after)
    }
}

/// A password that can be recognised wherever it comes out.
private struct Secret {
    static let mark = "qZ7Rk9"
    let text: String

    /// With something around the mark that may well be left unescaped.
    init(_ around: String) {
        let middle = around.index(around.startIndex, offsetBy: around.count / 2)
        text = around[..<middle] + Self.mark + around[middle...]
    }

    /// Nil when what stands before the mark says in so many words that a part follows that is shown.
    func behind(_ before: String) -> Secret? {
        let prefix = before + (text.firstRange(of: Self.mark).map { text[..<$0.lowerBound] } ?? "")
        return ["host=", "hostaddr=", "user=", "dbname="].contains { holds(prefix, $0) } ? nil : self
    }

    func demandHidden(in shown: String) { demand(!holds(shown, Self.mark), "the password is hidden: \(shown)") }
}

/// Without the mark, which libFuzzer finds in comparisons and puts where a text may be shown: into a user's name.
private func unmarked(_ text: String) -> String {
    var bytes = Array(text.utf8)
    while let found = bytes.firstRange(of: Secret.mark.utf8) { bytes.removeSubrange(found) }
    return String(decoding: bytes, as: UTF8.self)
}

private func examine(_ url: String, hiding secret: Secret?, variable: String = "SIDECAR_DATABASE_URL") {
    do {
        let source = try DatabaseSource.find(option: nil, environment: Environment([variable: url]))
        let settings = source.settings
        var dumped = ""
        dump(settings, to: &dumped)
        // A host costs one comma.
        demandOneLine(settings.description, longest: 20_000)
        for shown in [settings.description, String(reflecting: settings), dumped] { secret?.demandHidden(in: shown) }
        demandSameAgain(settings)
    } catch let failure as Failure {
        demand(failure.code == Failure.configuration, "exit code 78, not \(failure.code)")
        demandOneLine(failure.message)
        secret?.demandHidden(in: failure.message)
    } catch {
        demand(false, "a Failure, not \(error)")
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

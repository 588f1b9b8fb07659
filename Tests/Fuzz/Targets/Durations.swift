// Target `durations`: what people write for a time. Accepted ones mean what they say, to the nanosecond as far as a Double
// carries, and survive being shown; refused ones are told in one line, without a password that got into the wrong place.

import Clock

@testable import Settings
@testable import Text

func fuzzDurations(_ input: UnsafeRawBufferPointer) {
    var bytes = Bytes(input)
    switch bytes.choice(of: 3) {
    case 0: read(bytes.remainingText())
    case 1:
        let duration = Duration.milliseconds(abs(bytes.number() % (366 * 86_400_000)))
        demand(Durations.parse(Durations.text(duration)) == duration, "\(duration) survives being shown")
        _ = Durations.text(.nanoseconds(bytes.number()))
    default:
        let (before, after) = (bytes.text(), bytes.remainingText())
        let mark = "qZ7Rk9"
        // The mark in what stands around it is no password, nor is one with a control character in it that is left out.
        for around in [before, after] where holds(String(around.unicodeScalars.filter { !$0.breaksLine }), mark) {
            return
        }
        for text in ["\(before)postgresql://u:\(mark)@h\(after)", "\(before)password=\(mark)\(after)"] {
            demand(!holds(refusal(of: text) ?? "", mark), "the password in \(text) is hidden")
        }
    }
}

private func read(_ text: String) {
    let limit = Duration.seconds(366 * 86400)
    guard let duration = Durations.parse(text) else {
        if !text.isEmpty { demand(refusal(of: text) != nil, "'\(text)' is refused") }
        return
    }
    demand(duration >= .zero && duration <= limit, "\(text) within a year: \(duration)")
    demand(meaning(text).map { abs($0 - Double(duration.nanoseconds)) <= 8 } == true, "\(text) is \(duration)")
    let shown = Durations.parse(Durations.text(duration))
    demand(
        shown == .milliseconds(duration.milliseconds), "\(text), shown as \(Durations.text(duration)), is \(duration)")
    demand(refusal(of: text) == nil, "\(text) is accepted as a setting")
}

/// The nanoseconds that a number with a unit names, added up digit by digit.
private func meaning(_ text: String) -> Double? {
    let units: [(String, Double)] = [("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)]
    guard let (unit, nanoseconds) = units.first(where: { text.hasSuffix($0.0) }) else { return nil }
    let parts = text.dropLast(unit.count).split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count <= 2, parts.contains(where: { !$0.isEmpty }) else { return nil }
    var (whole, fraction) = (0.0, 0.0)
    for digit in parts[0].utf8 { whole = whole * 10 + Double(digit) - 48 }
    // From its end, which loses the least.
    for digit in (parts.count == 2 ? parts[1] : "").utf8.reversed() { fraction = (fraction + Double(digit) - 48) / 10 }
    return whole * nanoseconds + fraction * nanoseconds
}

private func refusal(of text: String) -> String? {
    do {
        _ = try SettingReader(options: ["ttl": text], environment: Environment([:])).value(\.ttl)
        return nil
    } catch {
        let message = (error as? Failure)?.message ?? ""
        demandOneLine(message)
        demand(message.hasPrefix("--ttl "), "says which setting: \(message)")
        return message
    }
}

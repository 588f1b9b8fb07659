// Lays two stories of one schedule side by side. They agree if every stream tells the same in the same order, and nothing
// came in reality before it could. Later it may come: this is about what happens, not about how fast.

import Clock

@testable import GuardModel

struct Comparison {
    let differences: [String]
    /// By how much the latest event came after its time.
    let lateness: Time
    /// What agreed, by kind of event.
    let kinds: [String: Int]

    /// - Parameter origin: where the schedule begins on the real clock.
    init(model: Story, real: Story, origin: Instant) {
        var differences: [String] = []
        var lateness: Time = 0
        var kinds: [String: Int] = [:]
        let (expected, found) = (model.streams, real.streams)
        for stream in Set(expected.keys).union(found.keys).sorted() {
            let said = (expected[stream] ?? []).map { ($0.time, $0.event.text(origin: SlotTiming.origin)) }
            let told = (found[stream] ?? []).map { ($0.time, $0.event.text(origin: origin)) }
            for index in 0..<max(said.count, told.count) {
                let (one, other) = (index < said.count ? said[index] : nil, index < told.count ? told[index] : nil)
                guard let one, let other, one.1 == other.1 || Self.isRace(one.1, other.1, in: said, index) else {
                    differences.append(
                        "\(stream): the model says \"\(one?.1 ?? "nothing more")\", reality \"\(other?.1 ?? "nothing more")\""
                    )
                    break
                }
                kinds[(found[stream]?[index].event.kind) ?? "", default: 0] += 1
                lateness = max(lateness, other.0 - one.0)
                // The model's own latencies, which are all below this.
                if other.0 < one.0 - millisecond {
                    differences.append("\(stream): \"\(one.1)\" came \((one.0 - other.0) / 1000) us before it could")
                }
            }
        }
        self.differences = differences
        self.lateness = lateness
        self.kinds = kinds
    }

    /// A command that gets SIGTERM and SIGKILL at once may end by either: which comes first is the kernel's to choose.
    private static func isRace(_ one: String, _ other: String, in said: [(Time, String)], _ index: Int) -> Bool {
        index > 0 && said[index - 1].1.hasPrefix("killing ") && one.hasPrefix("exited ")
            && other == one.prefix { $0 != "s" } + "status 9"
    }

    /// The two, one event a line, in the order of their times.
    static func table(model: Story, real: Story, origin: Instant, schedule: Schedule, _ timing: SlotTiming) -> String {
        var lines: [(time: Time, rank: Int, text: String)] = []
        for (slot, steps) in schedule.slots.enumerated() {
            for step in steps { lines.append((timing.begin(ofSlot: slot), 1, "\(step)")) }
        }
        for entry in model.entries {
            lines.append((entry.time, 2, column("", entry.event.text(origin: SlotTiming.origin))))
        }
        for entry in real.entries {
            lines.append((entry.time, 3, column(column("", ""), entry.event.text(origin: origin))))
        }
        let sorted = lines.enumerated().sorted {
            ($0.element.time, $0.element.rank, $0.offset) < ($1.element.time, $1.element.rank, $1.offset)
        }
        let conducts = schedule.conducts.sorted { $0.key < $1.key }.map { "start \($0.key): \($0.value)" }
        return conducts.joined(separator: "\n") + "\n" + pad("ms", 9) + column(column("done", "the model"), "reality")
            + "\n"
            + sorted.map { _, line in
                pad("\(line.time / millisecond).\(abs(line.time / 100_000 % 10))", 9) + line.text
            }.joined(separator: "\n")
    }

    private static func column(_ before: String, _ text: String) -> String {
        pad(before, before.count < 40 ? 40 : 82) + text
    }

    private static func pad(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(1, width - text.count))
    }
}

// What a model acts on: a time that only the agenda moves, chance that comes from one seed, and a trace of both. Two
// programs bring a model to life with it: `simulate`, in worlds of faults, and `compare-guard`, beside a real guard.

class Stage {
    final private(set) var now: Time = 0
    final var random: Random
    final private var agenda = Agenda()
    final private let isTracing: Bool
    /// What happened, where it is wanted: seconds, and what.
    final private(set) var lines: [String] = []

    init(random: Random, isTracing: Bool) {
        self.random = random
        self.isTracing = isTracing
    }

    final func at(_ time: Time, _ step: @escaping Agenda.Step) { agenda.add(at: max(time, now), step) }

    final func after(_ delay: Time, _ step: @escaping Agenda.Step) { agenda.add(at: now + delay, step) }

    /// Sets `bell` to ring then, and only then.
    final func set(_ bell: Bell, at time: Time) { agenda.set(bell, at: max(time, now), turn: agenda.takeTurn()) }

    /// The same, in the turn that was taken when it was settled; that time must not have passed.
    final func set(_ bell: Bell, at time: Time, turn: Agenda.Turn) { agenda.set(bell, at: time, turn: turn) }

    /// Forgets its time, if it is set.
    final func clear(_ bell: Bell) { agenda.clear(bell) }

    /// A place in the order of what happens at one time, to be used later.
    final func takeTurn() -> Agenda.Turn { agenda.takeTurn() }

    /// Does what is next, if it is due by `end`; otherwise it is `end`, and false.
    final func step(until end: Time) -> Bool {
        guard let (time, next) = agenda.next(by: end) else {
            now = max(now, end)
            return false
        }
        now = time
        next.run()
        return true
    }

    /// Forgets all that is still to come.
    final func close() { agenda.removeAll() }

    final func trace(_ text: () -> String) {
        guard isTracing else { return }
        let micros = String(now / 1000)
        let seconds = micros.count > 6 ? micros.dropLast(6) : "0"
        let fraction = String(repeating: "0", count: max(0, 6 - micros.count)) + micros.suffix(6)
        let time = "\(seconds).\(fraction)"
        lines.append(String(repeating: " ", count: max(0, 11 - time.count)) + time + "  " + text())
    }
}

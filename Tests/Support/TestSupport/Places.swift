// How many tests may run at once, where each mostly waits. Some need the whole machine for themselves: they run alone.

import Foundation
import Synchronization

/// A fixed number of places. A test takes one for as long as it runs, or all of them.
public final class Places: Sendable {
    /// What a test takes.
    public enum Need: Sendable {
        /// One place, before the usual ones: for a long test, which would otherwise run on when all others are done.
        case early
        /// One place.
        case usual
        /// All places: for a test that takes every processor. It waits until nobody wants a single place any more.
        case alone
    }

    private struct State {
        var free: Int
        var waiting: [(need: Need, go: CheckedContinuation<Void, Never>)] = []
    }

    /// How many there are.
    public let count: Int
    private let state: Mutex<State>

    public init(_ count: Int) {
        precondition(count > 0, "no place, no test")
        self.count = count
        state = Mutex(State(free: count))
    }

    /// Three for each processor, and not more than twelve; SIDECAR_TEST_PLACES says otherwise.
    public static let usualCount: Int = {
        let asked = ProcessInfo.processInfo.environment["SIDECAR_TEST_PLACES"].flatMap { Int($0) }
        return asked.map { max(1, $0) } ?? min(12, 3 * ProcessInfo.processInfo.activeProcessorCount)
    }()

    /// Waits for what `need` says, and gives it back once `body` has ended.
    public func with<Result>(_ need: Need, _ body: () async throws -> Result) async rethrows -> Result {
        await take(need)
        defer { giveBack(need) }
        return try await body()
    }

    /// How many wait.
    public var queue: Int { state.withLock { $0.waiting.count } }

    private func size(_ need: Need) -> Int { need == .alone ? count : 1 }

    private func take(_ need: Need) async {
        await withCheckedContinuation { go in
            let admitted = state.withLock { state in
                state.waiting.append((need, go))
                return admit(&state)
            }
            for next in admitted { next.resume() }
        }
    }

    private func giveBack(_ need: Need) {
        let admitted = state.withLock { state in
            state.free += size(need)
            return admit(&state)
        }
        for next in admitted { next.resume() }
    }

    /// Takes out of the queue who may go: the early, then the usual, each in the order in which they came; then one alone.
    private func admit(_ state: inout State) -> [CheckedContinuation<Void, Never>] {
        var admitted: [CheckedContinuation<Void, Never>] = []
        for need in [Need.early, .usual, .alone] {
            while let next = state.waiting.firstIndex(where: { $0.need == need }) {
                guard state.free >= size(need) else { return admitted }
                state.free -= size(need)
                admitted.append(state.waiting.remove(at: next).go)
            }
        }
        return admitted
    }
}

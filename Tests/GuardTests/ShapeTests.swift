// How long it takes to kill a tree depends on how many processes it has. It does not depend on how they hang together, nor on
// how many dead lie about that nobody reaps. No limit here is a time: one tree is measured against another.

import Clock
import Glibc
import TestSupport
import Testing

extension RealTrees {
    @Suite struct ShapeTests {
        /// Who kills.
        enum Killer: CaseIterable, Sendable {
            case guardian
            /// The keeper, below a guard that a debugger holds.
            case keeperBelowGuard
        }

        static let killers = Killer.allCases.filter { $0 == .guardian || HeldStartTests.mayTrace }

        @Test(arguments: killers, [500, 1000])
        func `a chain takes no longer than as many side by side`(_ killer: Killer, _ count: Int) async throws {
            // The best of a few, since the machine has other things to do.
            var flat = Duration.seconds(1000)
            var nested = Duration.seconds(1000)
            for _ in 1...4 {
                flat = min(flat, try await Self.time(of: "flat", count, killer))
                nested = min(nested, try await Self.time(of: "nested", count, killer))
                if nested < flat * 3 { return }
            }
            Issue.record("\(count) in a chain took \(nested) to die, side by side \(flat)")
        }

        private static func time(of shape: String, _ count: Int, _ killer: Killer) async throws -> Duration {
            let forks = "/dev/shm/guard-test-\(getpid())-shape"
            defer { unlink(forks) }
            let host = try Host([builtProduct("TreeShapes"), shape, forks, "\(count)"])
            await host.startShape()
            let (first, last) = killer == .guardian ? ("killing 1", "empty 1") : ("settled", "swept")
            if killer == .guardian {
                host.order("kill 1")
            } else {
                host.order("spawn \(builtProduct("StartHolder")) hold \(host.guardPid)")
                await host.hears("holder ready")
                host.order("kill-guard")
                host.order("settle")
                host.order("sweep-below")
            }
            await host.hears(last, within: .seconds(120))
            #expect(
                host.tree.allSatisfy { ProcessTable.name($0) == "StartHolder" }, "called empty over living processes")
            let begin = try #require(host.time(of: first))
            return try #require(host.time(of: last)).since(begin)
        }

        @Test(
            .enabled(if: HeldStartTests.mayTrace, "one process may not trace another here"),
            arguments: ["session-chains", "sibling-chains"])
        func `a storm below a held guard ends before it has forked once more as often`(_ shape: String) async throws {
            let file = "/dev/shm/guard-test-\(getpid())-\(shape)"
            defer { unlink(file) }
            let host = try Host([builtProduct("TreeShapes"), shape, file])
            await host.startShape()
            host.order("spawn \(builtProduct("StartHolder")) hold \(host.guardPid)")
            await host.hears("holder ready")
            // From here on all the dead stay where they are.
            host.order("kill-guard")
            let before = DeadlineTests.count(file)
            await host.eventually("a heap of dead") { DeadlineTests.count(file) > before + 4000 }
            let atStart = DeadlineTests.count(file)
            host.order("sweep-below")
            await host.hears("swept", within: .seconds(120))
            #expect(
                host.tree.allSatisfy { ProcessTable.name($0) == "StartHolder" }, "called empty over living processes")
            let forked = DeadlineTests.count(file) - atStart
            #expect(forked < 4000, "forked \(forked) times while it was killed")
        }
    }
}

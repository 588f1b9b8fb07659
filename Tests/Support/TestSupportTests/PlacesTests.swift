// Who waits for whom: places are never taken twice, long tests come first, and whoever needs the machine alone has it alone.

import TestSupport
import Testing

@Suite struct PlacesTests {
    /// What was seen while many ran.
    private actor Seen {
        private var running = 0
        private var alone = false
        private(set) var most = 0
        private(set) var besideOneAlone = 0
        private(set) var order: [Places.Need] = []

        func begins(_ need: Places.Need) {
            if alone || (need == .alone && running > 0) { besideOneAlone += 1 }
            running += 1
            most = max(most, running)
            alone = need == .alone
            order.append(need)
        }

        func ends(_ need: Places.Need) {
            running -= 1
            if need == .alone { alone = false }
        }
    }

    @Test func noMoreThanThePlacesRunAndOneAloneRunsAlone() async {
        let places = Places(3)
        let seen = Seen()
        await withTaskGroup(of: Void.self) { group in
            for number in 0..<60 {
                let need = [Places.Need.usual, .alone, .early][number % 3]
                group.addTask {
                    await places.with(need) {
                        await seen.begins(need)
                        for _ in 0..<20 { await Task.yield() }
                        await seen.ends(need)
                    }
                }
            }
        }
        #expect(await seen.most == 3)
        #expect(await seen.besideOneAlone == 0)
    }

    @Test func theEarlyComeFirstAndTheLonelyLast() async throws {
        let places = Places(2)
        let seen = Seen()
        try await withThrowingTaskGroup(of: Void.self) { group in
            try await places.with(.alone) {
                for need in [Places.Need.alone, .usual, .early, .alone, .usual, .early] {
                    let waiting = places.queue
                    group.addTask { await places.with(need) { await seen.begins(need) } }
                    try await eventually(awaiting: "\(need) waits", timeout: .seconds(5)) { places.queue > waiting }
                }
            }
            try await group.waitForAll()
        }
        let order = await seen.order
        // Two at a time may change places with each other, not with those that come after both.
        #expect(order == [.early, .early, .usual, .usual, .alone, .alone], "\(order)")
    }
}

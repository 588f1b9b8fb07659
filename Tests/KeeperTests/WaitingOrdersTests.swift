// Orders that wait for a guard that does not read: a kill waits for nothing, no question is lost, and the list stays short.

import Clock
import Orders
import Testing

@testable import Keeper

@Suite("Orders that wait for the guard") struct WaitingOrdersTests {
    private let one = StartID(1)
    private func extend(_ seconds: Int64, _ token: UInt64) -> Order {
        .extend(one, deadline: Instant(nanoseconds: seconds * 1_000_000_000), token: token)
    }

    private func waiting(_ orders: [Order]) -> [Order] {
        var waiting = WaitingOrders()
        for order in orders { waiting.add(order) }
        return waiting.all
    }

    @Test("A kill goes first, and nothing that waited can lengthen the life any more") func killFirst() {
        #expect(waiting([.signal(one, number: 15), extend(9, 3), .kill(one)]) == [.kill(one), .ping(token: 3)])
    }

    @Test("After a kill the questions that waited are still asked") func questionsStay() {
        let asked = waiting([.ping(token: 1), extend(9, 2), .kill(one)])
        #expect(asked == [.kill(one), .ping(token: 1), .ping(token: 2)])
        #expect(waiting([.kill(one), .ping(token: 4)]) == [.kill(one), .ping(token: 4)])
    }

    @Test("Of extensions the newest holds, also when its deadline is the earlier one") func newestExtension() {
        let left = waiting([extend(9, 1), .signal(one, number: 10), extend(5, 2)])
        #expect(left == [.signal(one, number: 10), extend(5, 2)])
    }

    @Test("However many orders come, few wait") func isBounded() {
        let many = (1...1000).flatMap { number -> [Order] in
            [.ping(token: UInt64(number)), extend(Int64(number), UInt64(number)), .signal(one, number: 15)]
        }
        #expect(waiting(many) == [.signal(one, number: 15), .ping(token: 1000), extend(1000, 1000)])
    }

    @Test("Orders are delivered from the first on, until there is no room") func inTurn() {
        var waiting = WaitingOrders()
        for order in [Order.signal(one, number: 15), .signal(one, number: 18), .ping(token: 1)] { waiting.add(order) }
        var sent: [Order] = []
        waiting.deliver { order in
            guard sent.count < 2 else { return false }
            sent.append(order)
            return true
        }
        #expect(sent == [.signal(one, number: 15), .signal(one, number: 18)])
        #expect(waiting.all == [.ping(token: 1)])
    }
}

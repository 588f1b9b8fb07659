// Orders that the guard had no room for. They are delivered, in turn, as soon as the guard reads again. The list cannot
// grow without end: of orders that say the same, or say it anew, only one waits.

import Orders

/// The orders that wait for room in the channel, in the order in which they will be delivered.
struct WaitingOrders {
    private(set) var all: [Order] = []

    var isEmpty: Bool { all.isEmpty }

    /// Adds an order.
    ///
    /// A kill goes first, and of what waited only the questions stay, as pings: nothing else matters to a tree that is
    /// about to be killed, but the keeper waits for the answers (R12). Of extensions only the newest holds, and only
    /// the newest ping is asked about. A signal that waits already need not wait twice (as in the kernel).
    mutating func add(_ order: Order) {
        switch order {
        case .kill:
            all = [order] + questions
            return
        case .ping: all.removeAll { if case .ping = $0 { true } else { false } }
        case .extend: all.removeAll { if case .extend = $0 { true } else { false } }
        case .signal, .start, .handicap: break
        }
        if !all.contains(order) { all.append(order) }
    }

    /// Delivers orders from the first on, until `send` finds no room.
    mutating func deliver(_ send: (Order) -> Bool) {
        while let order = all.first, send(order) { all.removeFirst() }
    }

    mutating func removeAll() { all = [] }

    private var questions: [Order] {
        all.compactMap { order in
            switch order {
            case .ping(let token), .extend(_, _, let token): .ping(token: token)
            case .start, .signal, .kill, .handicap: nil
            }
        }
    }
}

// What the guard still has to say while its keeper does not read. What happened to the child is kept, in order, and said
// when there is room; what is only news of the moment (a pong, an extension) is dropped.

import Orders

struct Outbox {
    private var waiting: [Answer] = []

    init() { waiting.reserveCapacity(16) }

    var isEmpty: Bool { waiting.isEmpty }

    mutating func put(_ answer: Answer) {
        if waiting.isEmpty || !answer.mayBeLost { waiting.append(answer) }
    }

    mutating func clear() { waiting.removeAll(keepingCapacity: true) }

    /// Sends what can be sent now.
    mutating func flush(_ send: ([UInt8]) -> Delivery) {
        while let answer = waiting.first {
            switch send(Wire.encode(answer)) {
            case .sent: waiting.removeFirst()
            case .full:
                waiting.removeAll(where: \.mayBeLost)
                return
            case .closed:
                // The end of file that the next read finds is what is acted upon.
                clear()
                return
            }
        }
    }
}

extension Answer {
    /// Whether the keeper will ask again, or learn it anyway.
    fileprivate var mayBeLost: Bool {
        switch self {
        case .strained, .pong, .extended, .surviving, .notStarted(_, .treeAlive), .notStarted(_, .stale): true
        default: false
        }
    }
}

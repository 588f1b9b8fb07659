// The answers that the guard could not send yet, because its keeper does not read. Answers about the child are kept,
// in order, and sent when there is room. Answers that matter only at the moment (a pong, an extension) are dropped.

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
                // The guard acts on the end of file that the next read finds.
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

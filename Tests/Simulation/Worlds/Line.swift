// A way on which nothing overtakes anything: to a server and back, to a guard and back.

@testable import GuardModel

/// Things on their way, one after the other: a bell for the first of them.
struct Line<Item> {
    private struct Sent {
        let item: Item
        let time: Time
        let turn: Agenda.Turn
    }

    /// When the last one that was sent arrives: none overtakes it.
    private var lastArrival: Time = 0
    private var sent: [Sent] = []

    var isEmpty: Bool { sent.isEmpty }
    var count: Int { sent.count }

    /// Sends `item`, to arrive at `time` or with the one before.
    mutating func send(_ item: Item, at time: Time, through stage: Stage, _ bell: Bell) {
        lastArrival = max(lastArrival, time)
        let turn = stage.takeTurn()
        if sent.isEmpty { stage.set(bell, at: lastArrival, turn: turn) }
        sent.append(Sent(item: item, time: lastArrival, turn: turn))
    }

    /// The bell rang: takes out what arrives, and sets the bell for the one behind it.
    mutating func receive(through stage: Stage, _ bell: Bell) -> Item {
        // Almost always the only one, and cheaper to take from the end.
        if sent.count == 1 { return sent.removeLast().item }
        let first = sent.removeFirst()
        stage.set(bell, at: sent[0].time, turn: sent[0].turn)
        return first.item
    }
}

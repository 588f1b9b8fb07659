// What a trace says of a keeper's statements and notices.

import Clock
import Lease

extension Keeper {
    func short(_ statement: Statement) -> String {
        switch statement {
        case .observe: "polls"
        case .create: "makes the missing record"
        case .claim(let seen, _, let lock):
            "sends a claim over (\(seen.epoch), \(seen.beat))\(lock == .waived ? " without the lock" : "")"
        case .terminateHolder: "wants the lock's holder terminated"
        case .renew(let epoch, _): "sends a renewal of \(epoch)"
        case .resume(let epoch, _, _): "sends a renewal of \(epoch) through a new session"
        case .release(let epoch, _): "sends the release of \(epoch)"
        case .unlock: "sends an unlock"
        case .auxiliary(let chore): "chore \(chore)"
        }
    }

    func short(_ notice: Notice) -> String {
        switch notice {
        case .sessionLost(let reason): "session lost: \(reason)"
        case .standby(let record, let wait):
            "watches (\(record.epoch), \(record.beat))\(record.released ? ", released" : "") for \(wait)"
        case .claimed(let epoch, let basis, _): "leads in \(epoch), the record was \(basis)"
        case .starting: "orders the start"
        case .started: "learns of the start"
        case .childExited: "learns of the exit"
        case .treeEmpty: "learns that the tree is empty"
        case .lost(let loss): "lost the lease: \(loss)"
        case .resumed(let epoch): "goes on in \(epoch)"
        case .tookUpOwnRecord(let epoch): "takes up its own record of \(epoch)"
        default: "\(notice)"
        }
    }
}

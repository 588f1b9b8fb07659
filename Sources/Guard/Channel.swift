// The packets between keeper and guard: a Unix socket pair that keeps message boundaries. Neither end ever blocks on
// the other: a keeper that is stopped must not stop the guard, nor the other way round.

import CLinux
import Glibc

/// What was there to be read.
enum Packet: Equatable {
    case nothing
    case bytes(Int)
    /// The other end is closed, or the socket is of no more use.
    case closed
    /// Longer than the longest packet: no correct peer sends that.
    case tooLong
}

/// What became of a packet.
enum Delivery: Equatable {
    case sent
    /// The other end does not read; nothing was sent.
    case full
    case closed
}

enum Channel {
    /// Two connected sockets, close-on-exec and non-blocking, or nil with errno.
    static func pair() -> (keeper: Int32, guard: Int32)? {
        var ends: [Int32] = [-1, -1]
        let type = Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        guard socketpair(AF_UNIX, type, 0, &ends) == 0 else { return nil }
        return (ends[0], ends[1])
    }

    static func send(_ bytes: [UInt8], to channel: Int32) -> Delivery {
        while true {
            if Glibc.send(channel, bytes, bytes.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)) >= 0 {
                return .sent
            }
            switch errno {
            case EINTR: continue
            case EAGAIN, ENOBUFS, ENOMEM: return .full
            default: return .closed
            }
        }
    }

    static func receive(from channel: Int32, into buffer: inout [UInt8]) -> Packet {
        while true {
            // MSG_TRUNC makes recv(2) tell the packet's real length, so that a cut packet is not taken for a whole one.
            let flags = Int32(MSG_DONTWAIT) | Int32(MSG_TRUNC)
            let length = recv(channel, &buffer, buffer.count, flags)
            if length > buffer.count { return .tooLong }
            if length > 0 { return .bytes(length) }
            if length == 0 { return .closed }
            switch errno {
            case EINTR: continue
            // Reported once if the peer ended with unread packets of ours. What the peer had sent before follows.
            case ECONNRESET: continue
            case EAGAIN: return .nothing
            default: return .closed
            }
        }
    }
}

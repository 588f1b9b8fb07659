// A name server of a few lines, so that it can hang on request: it then hears every question and answers none, which is
// what a resolver takes longest to give up on. Runs as a process of its own on the hub: `chaos name-server`.

import ArgumentParser
import Foundation
import Glibc
import TestSupport

/// The process.
struct NameServerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "name-server", shouldDisplay: false)
    @Argument(help: "Address to listen on.") var address: String
    @Argument(help: "While this file exists nothing is answered.") var hang: String
    @Argument(help: "NAME=ADDRESS") var names: [String]

    func run() throws {
        let known = Dictionary(
            names.map { $0.split(separator: "=").map(String.init) }.map { ($0[0], $0[1]) }, uniquingKeysWith: { $1 })
        let socket = Glibc.socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        var here = sockaddr_in()
        here.sin_family = sa_family_t(AF_INET)
        here.sin_port = UInt16(53).bigEndian
        inet_pton(AF_INET, address, &here.sin_addr)
        let size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafePointer(to: &here) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(socket, $0, size) }
        }
        guard bound == 0 else { throw Failure("cannot listen on \(address):53: errno \(errno)") }
        say("ready")
        var question = [UInt8](repeating: 0, count: 1500)
        while true {
            var peer = sockaddr_in()
            var length = size
            let count = withUnsafeMutablePointer(to: &peer) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    recvfrom(socket, &question, question.count, 0, $0, &length)
                }
            }
            guard count > 12 else { continue }
            let asked = Array(question[..<count])
            guard access(hang, F_OK) != 0 else {
                say("withheld \(Self.name(in: asked).text)")
                continue
            }
            let answer = Self.answer(to: asked, known)
            _ = withUnsafePointer(to: &peer) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    sendto(socket, answer, answer.count, 0, $0, length)
                }
            }
            say("answered \(Self.name(in: asked).text)")
        }
    }

    /// The name that is asked for, and where it ends (RFC 1035, 4.1.2).
    private static func name(in message: [UInt8]) -> (text: String, end: Int) {
        var labels: [String] = []
        var at = 12
        while at < message.count, message[at] != 0 {
            let end = min(at + 1 + Int(message[at]), message.count)
            labels.append(String(decoding: message[(at + 1)..<end], as: UTF8.self))
            at = end
        }
        return (labels.joined(separator: ".").lowercased(), at + 1)
    }

    /// An address for a known name; no data for its other types; no such name for all others.
    private static func answer(to message: [UInt8], _ known: [String: String]) -> [UInt8] {
        let (name, end) = name(in: message)
        guard end + 4 <= message.count else { return Array(message[..<2]) + [0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0] }
        let isAddress = message[end] == 0 && message[end + 1] == 1
        let numbers = known[name]?.split(separator: ".").compactMap { UInt8($0) }
        let count: UInt8 = isAddress && numbers != nil ? 1 : 0
        var answer = Array(message[..<2]) + [0x81, numbers == nil ? 0x83 : 0x80, 0, 1, 0, count, 0, 0, 0, 0]
        answer += message[12..<(end + 4)]
        if count == 1, let numbers { answer += [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4] + numbers }
        return answer
    }
}

/// The name server of a stage, from outside.
final class NameServer: Sendable {
    private let process: SpawnedProcess
    private let hangFile: String

    init(on host: Host, directory: String, names: [String: String]) throws {
        hangFile = directory + "/hang"
        let program = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? "chaos"
        process = try SpawnedProcess(
            host.enter + [program, "name-server", host.address, hangFile] + names.map { "\($0.key)=\($0.value)" },
            environment: SidecarProcess.cleanEnvironment, output: directory + "/name-server.log")
        try eventually("the name server is ready") { process.output.hasPrefix("ready\n") }
    }

    func hang() throws {
        guard FileManager.default.createFile(atPath: hangFile, contents: nil) else { throw Failure("no \(hangFile)") }
    }
    func answer() { unlink(hangFile) }

    /// How many questions were answered and withheld so far.
    var counts: (answered: Int, withheld: Int) {
        let lines = process.output.split(separator: "\n")
        return (lines.count { $0.hasPrefix("answered ") }, lines.count { $0.hasPrefix("withheld ") })
    }
}

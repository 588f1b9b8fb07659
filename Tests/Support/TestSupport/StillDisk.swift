// A small disk that can be made to stand still, as a hung NFS server or a dying disk does: whoever writes to it then waits in
// the kernel (state D) until it is let go, SIGKILL or not. Needs root and a loop device.

import Foundation

/// An ext4 in a file, mounted in a folder of its own. Let go and unmounted at the end.
public final class StillDisk: Sendable {
    /// Where it is mounted.
    public let path: String
    private let image: String

    /// Whether such a disk can be had here.
    public static let isPossible: Bool = {
        guard let directory = try? makeTemporaryDirectory("disk") else { return false }
        defer { try? FileManager.default.removeItem(atPath: directory) }
        return (try? StillDisk(in: directory)) != nil
    }()

    /// Makes and mounts it below `directory`.
    public init(in directory: String) throws {
        image = directory + "/image"
        path = directory + "/disk"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try Self.run("truncate -s 16M \"$1\" && mkfs.ext4 -q \"$1\" && mount -o loop \"$1\" \"$2\"", image, path)
    }

    /// From now on it stands still.
    public func freeze() throws { try Self.run("fsfreeze -f \"$1\"", path) }

    /// It goes on.
    public func thaw() { try? Self.run("fsfreeze -u \"$1\"", path) }

    deinit {
        thaw()
        try? Self.run("umount -l \"$1\"; rm -f \"$2\"", path, image)
    }

    private static func run(_ script: String, _ words: String...) throws {
        _ = try TestSupport.run(["/bin/sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; \(script)", "disk"] + words)
    }
}

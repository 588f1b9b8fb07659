// Sees to it that nothing outlives the tests: a shell that knows every process they started, and kills those still
// running when its input ends, which it does however the test process ended. (PR_SET_PDEATHSIG would not do: it fires
// when the thread that started a process ends.)

import Foundation
import Synchronization

/// The processes to kill when the test process is gone.
enum LastWill {
    private static let script = """
        trap '' INT TERM HUP
        all=' '
        while read -r word pid; do
            case $word in
            add) all="$all$pid " ;;
            drop) case $all in *" $pid "*) all="${all%% $pid *} ${all#* $pid }" ;; esac ;;
            esac
        done
        for pid in $all; do kill -s KILL "$pid"; done 2>/dev/null
        """

    /// The shell's input; -1 when there is no shell, and then nobody cleans up after a crash.
    private static let input: Int32 = {
        let pipe = Pipe()
        let shell = Process()
        shell.executableURL = URL(fileURLWithPath: "/bin/sh")
        shell.arguments = ["-c", script]
        shell.standardInput = pipe.fileHandleForReading
        guard (try? shell.run()) != nil else { return -1 }
        let input = fcntl(pipe.fileHandleForWriting.fileDescriptor, F_DUPFD_CLOEXEC, 3)
        try? pipe.fileHandleForWriting.close()
        return input
    }()

    /// The process runs.
    static func add(_ pid: pid_t) { say("add \(pid)\n") }
    /// The process is reaped: its pid may be somebody else's from now on.
    static func drop(_ pid: pid_t) { say("drop \(pid)\n") }

    /// One write(2) a line, which a pipe takes whole.
    private static func say(_ line: String) {
        let bytes = Array(line.utf8)
        _ = write(input, bytes, bytes.count)
    }
}

// This process's own arguments, in the memory the kernel gave them: the guard takes the command from there, and both
// processes wipe the database's password out of there, so that ps(1) does not show it.

import CLinux
import Glibc

/// Overwrites the value of `--database-url X` and `--database-url=X` with asterisks in this process's own argument memory,
/// which is what ps(1) and `/proc/PID/cmdline` show. What follows a `--` is the command's and is left as it is.
///
/// Whoever needs the value must have read it before. Not for use while another thread reads the arguments.
public func scrubArguments() {
    guard let arguments = clinux_argv() else { return }
    scrub(arguments, count: Int(clinux_argc()))
}

func scrub(_ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>, count: Int) {
    let option = "--database-url"
    var valueIsNext = false
    for index in 1..<max(count, 1) {
        guard let argument = arguments[index] else { return }
        if valueIsNext {
            wipe(argument)
            valueIsNext = false
        } else if strcmp(argument, "--") == 0 {
            return
        } else if strcmp(argument, option) == 0 {
            valueIsNext = true
        } else if strncmp(argument, option + "=", option.utf8.count + 1) == 0 {
            wipe(argument + option.utf8.count + 1)
        }
    }
}

private func wipe(_ text: UnsafeMutablePointer<CChar>) {
    var position = text
    while position.pointee != 0 {
        position.pointee = CChar(bitPattern: UInt8(ascii: "*"))
        position += 1
    }
}

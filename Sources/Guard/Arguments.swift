// This process's own arguments, in the memory that the kernel gave them, which is what ps(1) and pkill(1) see. The
// keeper wipes the database's password out of that memory. The guard takes a copy and wipes everything. So a person
// who ends the command by its words (`pkill -f "airflow scheduler"`) does not end its guard as well.

import CLinux
import Glibc

/// A copy of the program's arguments, made by the guard at its start and kept forever.
struct Arguments {
    /// Ends with nil, as exec wants it.
    let vector: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
    let count: Int

    /// Copies them, and leaves `title` in the memory that others see.
    static func take(title: String) -> Arguments {
        let count = Int(clinux_argc())
        let vector = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: count + 1)
        vector.initialize(repeating: nil, count: count + 1)
        if let arguments = clinux_argv() {
            for index in 0..<count { vector[index] = arguments[index].flatMap { strdup($0) } }
            retitle(arguments, count: count, title)
        }
        scrub(vector, count: count)
        return Arguments(vector: vector, count: count)
    }
}

/// Overwrites all arguments with the title and zeros. They lie one after the other in memory (execve(2) puts them so).
func retitle(_ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>, count: Int, _ title: String) {
    guard count > 0, let first = arguments[0], let last = arguments[count - 1] else { return }
    let length = last + strlen(last) - first
    guard length > 0 else { return }
    memset(first, 0, length)
    for (index, byte) in title.utf8.prefix(length).enumerated() { first[index] = CChar(bitPattern: byte) }
}

/// Overwrites the value of `--database-url X` and `--database-url=X` with asterisks in this process's own argument
/// memory, which is what ps(1) and `/proc/PID/cmdline` show. What follows a `--` is the command's and is left as it
/// is.
///
/// A caller that needs the value must have read it before. Not for use while another thread reads the arguments.
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

/// Settings of the sidecar that are secret and that the command does not need. If the command is meant to have them,
/// the keeper sends them.
let withheldVariables = ["SIDECAR_DATABASE_URL="]

/// Overwrites their values in this process's own environment memory: a child of the guard has a copy of that until
/// its exec, and is dumpable for a moment.
func scrubEnvironment() {
    guard let variables = clinux_environment() else { return }
    var index = 0
    while let variable = variables[index] {
        for name in withheldVariables where strncmp(variable, name, name.utf8.count) == 0 {
            wipe(variable + name.utf8.count)
        }
        index += 1
    }
}

private func wipe(_ text: UnsafeMutablePointer<CChar>) {
    var position = text
    while position.pointee != 0 {
        position.pointee = CChar(bitPattern: UInt8(ascii: "*"))
        position += 1
    }
}

// How an errno is shown.

import Glibc

/// strerror(3), in words and with the number.
package func errorText(_ number: Int32) -> String { "\(String(cString: strerror(number))) (errno \(number))" }

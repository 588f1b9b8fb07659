// The one place that names the version; what is built and published reads it here.

/// The program's version.
package enum Version {
    package static let current = "0.1.0"
}

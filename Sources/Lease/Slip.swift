// News that cannot come in the present state is a slip of our own. Tests and the simulation end at it, and say so. A
// release build ignores the news and goes on: a command depends on it, and the present state is safe.

/// Call where news is ignored that nothing outside can bring about.
package func slip(_ what: @autoclosure () -> String) {
    #if DEBUG || SIMULATION
        // Only tests and the simulation are compiled with these; a release build has no trap here.
        fatalError("a slip: \(what())")
    #endif
}

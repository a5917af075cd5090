//! The command line of the server benchmark.

use std::path::PathBuf;

xflags::xflags! {
    /// Measures servers side by side.
    cmd tabmux-bench {
        /// The binary of tabmux.
        required --tabmux file: PathBuf
        /// The script of the peer that uses npm `ws`; left out when not given.
        optional --ws file: PathBuf
        /// Writes the table into this file, between its markers.
        optional --write file: PathBuf
        /// Fewer links and rounds: for trying this program, not for figures.
        optional --quick
        /// Runs only the parts whose name contains this text.
        optional --only text: String
    }
}

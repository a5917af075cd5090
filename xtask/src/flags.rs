//! The command line of xtask.

use std::{ffi::OsString, path::PathBuf};

xflags::xflags! {
    /// The tasks of the tabmux repository.
    cmd xtask {
        /// Builds the wasm module, the page library and the worker into packages/tabmux/dist.
        cmd dist {
            /// Optimises the module for size (wasm-opt -Oz), as it is published.
            optional --release
            /// Where to put the result, in place of packages/tabmux/dist.
            optional --out dir: PathBuf
        }
        /// Builds the scripts that the simulator runs into packages/tabmux/host.
        cmd host {}
        /// Builds everything and serves the demo on 127.0.0.1.
        cmd demo {
            /// The port; 3000 when not given.
            optional --port number: u16
        }
        /// Runs every check there is. Ends with one line: N passed, N failed.
        cmd ci {
            /// Runs only the steps whose name contains this text.
            optional --only text: String
        }
        /// Checks the repository itself: who imports whom, PROTOCOL.md, sizes, files, links.
        cmd tidy {}
        /// Measures what browsers download, against the budgets, and README's table.
        cmd size {
            /// Writes the table in README.md.
            optional --write
            /// Measures this result of `dist --release`, in place of making one.
            optional --dist dir: PathBuf
        }
        /// Packs the crates as they would be published, and builds the binary from the archives.
        cmd package {}
        /// Starts the demo server on a free port and asks it for what a browser would.
        cmd smoke {}
        /// Runs the configurations in deploy/ for nginx and haproxy (Debian's packages) with two
        /// servers behind them, and looks at the systemd units.
        cmd proxies {}
        /// Runs the tests in real browsers; what follows `--` goes to the test program.
        cmd e2e {
            /// Arguments of the test program.
            repeated args: OsString
        }
        /// Runs the tests of WebSocket in a checkout of web-platform-tests, natively and in modes,
        /// and prints each difference.
        cmd wpt {
            /// The folder `websockets` of the checkout, beside its folder `resources`.
            required --tests dir: PathBuf
            /// chromium, firefox or webkit; chromium when not given.
            optional --engine name: String
            /// exclusive, mirror or mux; exclusive and mux when not given. May be repeated.
            repeated --mode name: String
            /// Only pages whose address contains this text.
            optional --filter text: String
        }
        /// Breaks tabs, workers, links and the server in real browsers under streams of numbered
        /// messages, and looks at every number.
        cmd chaos {
            /// chromium, firefox or webkit; all three when not given. May be repeated.
            repeated --engine name: String
            /// How the hub is hosted; the page library chooses when not given.
            optional --tier name: String
            /// Sockets go through the gateway, to a server that knows nothing of tabmux.
            optional --gateway
            /// Where everything is drawn from; another one each time when not given.
            optional --seed number: u64
            /// For how long in each engine; 1 when not given.
            optional --minutes number: u64
            /// The same in seconds.
            optional --seconds number: u64
            /// Draws only from actions of this name, besides those that open things. May be
            /// repeated.
            repeated --only action: String
        }
        /// Builds what is published, with checksums: the npm package, an archive with a static
        /// server binary and the scripts, and a Debian package (needs cargo-deb).
        cmd release {
            /// The target of Rust; x86_64-unknown-linux-musl when not given.
            optional --target triple: String
            /// Where to put the result, in place of target/dist.
            optional --out dir: PathBuf
        }
        /// Installs the browsers and drivers that `e2e` drives, from Debian's packages.
        cmd browsers {}
        /// Runs the Autobahn cases against the server's WebSocket (needs Python 3.10).
        cmd autobahn {
            /// Adds the cases that take minutes.
            optional --long
        }
        /// Fuzzes the decoders and the registry (needs a C++ compiler).
        cmd fuzz {
            /// For how long in all; 60 when not given.
            optional --seconds number: u32
            /// Runs one target only: decode, ws or registry.
            optional --target name: String
        }
        /// What clients who mean harm do to a server, and what their neighbour notices, as a table.
        /// Fails if the neighbour loses an answer.
        cmd abuse {
            /// Fewer clients, smaller limits, and no release build.
            optional --short
            /// Runs only the cases whose name contains this text.
            optional --only text: String
        }
        /// Runs a benchmark and prints its figures.
        cmd bench {
            /// The server's memory and CPU beside other servers and a floor; into
            /// docs/benchmarks.md.
            cmd server {
                /// Fewer links and rounds, and nothing written: for trying the benchmark itself.
                optional --quick
                /// Runs only the parts whose name contains this text, and writes nothing.
                optional --only text: String
            }
            /// The gateway's memory and CPU beside nginx and haproxy (Debian's packages); into
            /// docs/benchmarks.md.
            cmd gateway {
                /// Writes nothing to the docs.
                optional --dry
            }
            /// Round trips, bursts, first opens and memory in browsers, beside WebSocket and beside
            /// a plain SharedWorker; into docs/benchmarks.md.
            cmd browser {
                /// chromium, firefox or webkit; the first two when not given. May be repeated.
                repeated --engine name: String
                /// How often everything is measured; 7 when not given. With fewer nothing is
                /// written.
                optional --runs number: usize
                /// Measures only the parts whose name contains this text, and writes nothing.
                optional --only text: String
                /// Writes the tables into docs/benchmarks.md.
                optional --write
                /// Looks whether all messages come, with few of them and without a release build,
                /// and prints no time.
                optional --short
            }
            /// What a tab notices when the one that hosts the hub dies, at 100 messages a second,
            /// beside tabs that share nothing; into docs/benchmarks.md.
            cmd handover {
                /// chromium, firefox or webkit; all three when not given. May be repeated.
                repeated --engine name: String
                /// shared-worker, leader, storage or none; all when not given, else nothing is
                /// written. May be repeated.
                repeated --tier name: String
                /// Rounds of each cell; 20 when not given. With fewer nothing is written.
                optional --rounds number: u32
                /// The page that looks on is behind another tab, and has been for 15 s. Nothing is
                /// written.
                optional --hidden
                /// Runs only the ways to die whose name contains this text, and writes nothing.
                /// May be repeated.
                repeated --only text: String
            }
        }
        /// Runs the simulator with many seeds, or with one.
        cmd sim {
            /// How many seeds; the simulator's own default when not given.
            optional --seeds number: u64
            /// The first of them; 0 when not given.
            optional --from number: u64
            /// Runs this one seed alone.
            optional --seed number: u64
            /// Of that seed these transitions only: `all`, `none`, or as in `3,7-9`.
            optional --transitions list: String
            /// Prints the log of the run.
            optional --trace
            /// Prints every seed that fails, those that are known among them.
            optional --go-on
            /// Breaks a copy of the core on purpose, in several ways: each must be found.
            optional --mutations
            /// With `--mutations`: only those whose name contains this text.
            optional --only text: String
        }
    }
}

//! The tasks of this repository. `cargo xtask --help` lists them; `cargo demo` and `cargo ci` are
//! short for two of them.

mod autobahn;
mod bench;
mod browsers;
mod chaos;
mod ci;
mod debian;
mod demo;
mod dist;
mod flags;
mod fuzz;
mod mutants;
mod package;
mod process;
mod proxies;
mod release;
mod repo;
mod sim;
mod size;
mod smoke;
mod tidy;

use std::process::ExitCode;

use crate::{
    flags::{BenchCmd, Xtask, XtaskCmd},
    repo::Repo,
};

fn main() -> ExitCode {
    let flags = Xtask::from_env_or_exit();
    match run(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Xtask) -> anyhow::Result<()> {
    let repo = Repo::open()?;
    match flags.subcommand {
        XtaskCmd::Dist(flags) => dist::run(&repo, flags),
        XtaskCmd::Host(_) => dist::host(&repo),
        XtaskCmd::Demo(flags) => demo::run(&repo, flags),
        XtaskCmd::Ci(flags) => ci::run(&repo, &flags),
        XtaskCmd::Tidy(_) => tidy::run(&repo),
        XtaskCmd::Size(flags) => size::run(&repo, flags),
        XtaskCmd::Package(_) => package::run(&repo),
        XtaskCmd::Release(flags) => release::run(&repo, flags),
        XtaskCmd::Smoke(_) => smoke::run(&repo),
        XtaskCmd::Proxies(_) => proxies::run(&repo),
        XtaskCmd::E2e(flags) => browsers::e2e(&repo, flags),
        XtaskCmd::Wpt(flags) => browsers::wpt(&repo, flags),
        XtaskCmd::Chaos(flags) => chaos::run(&repo, flags),
        XtaskCmd::Abuse(flags) => bench::abuse(&repo, flags),
        XtaskCmd::Bench(flags) => match flags.subcommand {
            BenchCmd::Server(flags) => bench::server(&repo, flags),
            BenchCmd::Gateway(flags) => bench::gateway(&repo, &flags),
            BenchCmd::Browser(flags) => bench::browser(&repo, &flags),
            BenchCmd::Handover(flags) => bench::handover(&repo, flags),
        },
        XtaskCmd::Browsers(_) => browsers::install(&repo),
        XtaskCmd::Autobahn(flags) => autobahn::run(&repo, &flags),
        XtaskCmd::Fuzz(flags) => fuzz::run(&repo, flags),
        XtaskCmd::Sim(flags) => sim::run(&repo, flags),
    }
}

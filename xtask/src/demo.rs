//! `cargo demo`: from a fresh clone to a page in the browser.

use std::{net::TcpListener, time::Instant};

use anyhow::bail;
use xshell::cmd;

use crate::{
    dist, flags,
    process::{become_process, quiet, step},
    repo::Repo,
};

const PORT: u16 = 3000;

pub(crate) fn run(repo: &Repo, flags: flags::Demo) -> anyhow::Result<()> {
    let port = flags.port.unwrap_or(PORT);
    // Before the minutes a first build takes; the server looks again.
    if let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
        bail!(
            "cannot listen on 127.0.0.1:{port} ({error}): stop what uses the port, or take \
             another, as in `cargo demo --port {}`",
            if port == u16::MAX { PORT } else { port + 1 }
        );
    }
    let start = Instant::now();
    let assets = dist::default_out(repo);
    dist::build(repo, &assets, false)?;
    step("server", || build_server(repo))?;
    println!("ok   built in {:.1} s", start.elapsed().as_secs_f64());
    let server = repo.binary("tabmux");
    let listen = format!("127.0.0.1:{port}");
    let serve = cmd!(repo.sh, "{server} serve --listen {listen} --demo --assets {assets}");
    become_process(serve.into())
}

pub(crate) fn build_server(repo: &Repo) -> anyhow::Result<()> {
    quiet(cmd!(repo.sh, "cargo build -p tabmux-cli --bin tabmux"))
}

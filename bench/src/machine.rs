//! What the figures were measured on.

use std::process::Command;

use crate::peer::Peers;

pub(crate) fn describe(peers: &Peers) -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let node = version(Command::new("node").arg("--version"));
    let ws = peers.ws.as_ref().and_then(|script| {
        let lock = script.parent()?.join("node_modules/ws/package.json");
        let text = std::fs::read_to_string(lock).ok()?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix("\"version\": \""))?;
        Some(line.trim_end_matches(['"', ',']).to_owned())
    });
    format!(
        "{cores} cores ({model}), Linux {}, loopback. {}; Node {}, ws {}.\n",
        kernel.trim(),
        version(Command::new(&peers.tabmux).arg("--version")),
        node.trim_start_matches('v'),
        ws.unwrap_or_else(|| "not there".to_owned())
    )
}

fn version(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}

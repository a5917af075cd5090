//! The long runs: fuzzing.

use anyhow::{Context, ensure};
use xshell::cmd;

use crate::{
    flags,
    process::{Ran, step},
    repo::Repo,
};

/// What cargo-fuzz passes to the compiler, without the address sanitizer. That needs a nightly
/// toolchain and would look for what safe code cannot do; so this runs everywhere, and faster.
const INSTRUMENTED: &[&str] = &[
    "--cfg=fuzzing",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "-Coverflow-checks",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Frames for the target `ws`, behind the lengths of the pieces they come in.
const CONVERSATIONS: &[(&str, &str)] = &[
    ("text", "00  81 85 37fa213d 7f9f4d5158"),
    ("pieces", "02 03 04  01 83 37fa213d 7f9f4d  80 82 37fa213d 5b95"),
    ("ping-inside", "01 01  02 81 00000000 61  89 81 00000000 62  80 81 00000000 63"),
    ("close", "00  88 82 00000000 03e8"),
    ("deflated", "01 03  c1 87 00000000 f248cdc9c90700"),
    ("medium", "00  82 fe 007e 00000000"),
    ("large", "00  82 ff 0000000000010000 00000000"),
];

/// Targets of sockets for the target `gateway`, each with its sub-protocols behind 0xff.
const TARGETS: &[(&str, &[u8])] = &[
    ("plain", b"/chat/room?x=1&y=%20\xffv1.chat\xffv2.chat"),
    ("dots", b"/chat/../admin/%2e%2E/./x"),
    ("hidden", b"/chat/..%2f..%5cadmin/..;x/%3b"),
    ("smuggled", b"/chat HTTP/1.1\r\nHost: x\r\n\r\n\xffa, b\r\n"),
];

/// `cargo xtask fuzz`. What it learns stays in fuzz/corpus, what breaks in fuzz/artifacts.
pub(crate) fn run(repo: &Repo, flags: flags::Fuzz) -> anyhow::Result<()> {
    if let Some(why) = missing(repo) {
        anyhow::bail!("fuzzing {why}");
    }
    let _dir = repo.sh.push_dir(repo.path("fuzz"));
    let host = host(repo)?;
    let target = repo.path("fuzz/target");
    step("build the fuzz targets", || {
        // With `--target` the flags do not reach build scripts and macros.
        let build = cmd!(repo.sh, "cargo build --release --target {host} --target-dir {target}");
        crate::process::quiet(build.env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTED.join("\x1f")))
    })?;
    let mut targets =
        vec![("decode", golden(repo)?), ("ws", conversations()?), ("registry", Vec::new())];
    targets.push(("gateway", targets_of_sockets()));
    if let Some(only) = &flags.target {
        targets.retain(|(name, _)| name == only);
        ensure!(
            !targets.is_empty(),
            "no fuzz target is called {only}: decode, ws, registry, gateway"
        );
    }
    let seconds = (flags.seconds.unwrap_or(60) / targets.len() as u32).max(1).to_string();
    for (name, seeds) in targets {
        let corpus = format!("corpus/{name}");
        repo.sh.create_dir(&corpus)?;
        repo.sh.create_dir(format!("artifacts/{name}"))?;
        for (seed, bytes) in seeds {
            repo.sh.write_file(format!("{corpus}/{seed}"), bytes)?;
        }
        let fuzzer = target.join(&host).join("release").join(name);
        let said = step(&format!("fuzz {name} for {seconds} s"), || {
            let limits = ["-max_len=4096", "-rss_limit_mb=1024"];
            let fuzz = cmd!(
                repo.sh,
                "{fuzzer} {corpus} {limits...} -max_total_time={seconds} -verbosity=0
                 -print_final_stats=1 -artifact_prefix=artifacts/{name}/"
            );
            let name = fuzz.to_string();
            let Ran { status, output } = crate::process::capture(fuzz)?;
            ensure!(status.success(), "`{name}` failed ({status}):\n{}", output.trim_end());
            Ok(output)
        })?;
        let of = |what| said.lines().rfind(|line| line.contains(what));
        for line in [of("number_of_executed_units"), of(" steps")].into_iter().flatten() {
            println!("     {line}");
        }
    }
    Ok(())
}

/// What fuzzing needs and this machine has not.
pub(crate) fn missing(repo: &Repo) -> Option<String> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let version = cmd!(repo.sh, "{compiler} --version").quiet().ignore_stderr().read();
    version.is_err().then(|| "needs a C++ compiler".to_owned())
}

fn host(repo: &Repo) -> anyhow::Result<String> {
    let version = cmd!(repo.sh, "rustc -vV").quiet().read()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

/// Something to start from, with its name.
type Seeds = Vec<(String, Vec<u8>)>;

/// Returns the bytes of every golden frame.
fn golden(repo: &Repo) -> anyhow::Result<Seeds> {
    let mut seeds = Vec::new();
    for file in repo.sh.read_dir(repo.path("crates/wire/tests/golden"))? {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = repo.sh.read_file(&file)?;
        for (number, bytes) in vectors(&text).into_iter().enumerate() {
            let bytes = bytes.with_context(|| format!("{} is no hex", file.display()))?;
            seeds.push((format!("{name}-{number}"), bytes));
        }
    }
    Ok(seeds)
}

/// What WebSocket clients say.
fn conversations() -> anyhow::Result<Seeds> {
    let seeds = CONVERSATIONS.iter().map(|(name, hex)| {
        let bytes = unhex(hex).with_context(|| format!("the seed `{name}` is no hex"))?;
        Ok(((*name).to_owned(), bytes))
    });
    seeds.collect()
}

/// What tabs ask gateways for.
fn targets_of_sockets() -> Seeds {
    let seed = |(name, bytes): &(&str, &[u8])| ((*name).to_owned(), bytes.to_vec());
    TARGETS.iter().map(seed).collect()
}

/// The frames of a golden file: blank lines keep them apart.
pub(crate) fn vectors(text: &str) -> Vec<Option<Vec<u8>>> {
    text.trim().split("\n\n").map(unhex).collect()
}

/// Bytes of hex digits; white space and what follows `#` do not count.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let digits = lines.flat_map(str::chars).filter(|c| !c.is_whitespace());
    let digits: Vec<u8> = digits.map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::unhex;

    #[test]
    fn hex_is_read() {
        assert_eq!(unhex("01 ff # type\n7A\n"), Some(vec![0x01, 0xff, 0x7a]));
        assert_eq!(unhex("012"), None);
        assert_eq!(unhex("0x12"), None);
    }
}

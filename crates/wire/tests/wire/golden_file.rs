//! The committed vectors: one file for each frame type and direction.
//!
//! A file holds vectors apart by blank lines. Each begins with `# its name`; hex follows.
//! `UPDATE_GOLDEN=1` writes the files anew from the frames.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::OnceLock};

use tabmux_wire::Sender;

use crate::{frame::Frame, hub_vectors, second_vectors, server_vectors};

/// A frame and the name of its vector.
pub(crate) struct Vector {
    pub(crate) name: &'static str,
    pub(crate) frame: Frame<'static>,
}

impl Vector {
    pub(crate) fn new(name: &'static str, frame: impl Into<Frame<'static>>) -> Self {
        let frame = frame.into();
        Self { name, frame }
    }

    /// The file it is in, without the extension.
    pub(crate) fn file(&self) -> String {
        let side = match self.frame.sender() {
            Sender::Hub => "hub",
            Sender::Server => "server",
        };
        format!("{side}-{}", self.frame.name())
    }
}

/// The frames that have vectors.
pub(crate) fn expected() -> Vec<Vector> {
    let mut vectors = hub_vectors::all();
    vectors.extend(server_vectors::all());
    vectors.extend(second_vectors::all());
    vectors
}

/// Bytes by file and name of the vector.
pub(crate) type Committed = BTreeMap<(String, String), Vec<u8>>;

/// What the files hold.
pub(crate) fn committed() -> &'static Committed {
    static COMMITTED: OnceLock<Committed> = OnceLock::new();
    COMMITTED.get_or_init(|| {
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            write_all();
        }
        read_all()
    })
}

/// Bytes of hex digits; white space and what follows `#` do not count.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap());
    let digits: Vec<u8> =
        lines.flat_map(str::bytes).filter(|byte| !byte.is_ascii_whitespace()).collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {text:?}");
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"))
}

fn read_all() -> Committed {
    let mut committed = Committed::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_stem().unwrap().to_str().unwrap().to_owned();
        for block in fs::read_to_string(&path).unwrap().split("\n\n") {
            let (name, hex) = block.split_once('\n').unwrap();
            let name = name.strip_prefix("# ").unwrap().to_owned();
            let previous = committed.insert((file.clone(), name), unhex(hex));
            assert!(previous.is_none(), "{file}.hex has two vectors of a name");
        }
    }
    committed
}

fn write_all() {
    let mut files = BTreeMap::<String, Vec<String>>::new();
    for vector in expected() {
        let bytes = vector.frame.to_bytes();
        let rows = bytes.chunks(16).map(|row| {
            let row: Vec<_> = row.iter().map(|byte| format!("{byte:02x}")).collect();
            row.join(" ")
        });
        let rows: Vec<_> = rows.collect();
        let block = format!("# {}\n{}\n", vector.name, rows.join("\n"));
        files.entry(vector.file()).or_default().push(block);
    }
    for entry in fs::read_dir(folder()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for (file, blocks) in files {
        fs::write(folder().join(format!("{file}.hex")), blocks.join("\n")).unwrap();
    }
}

//! How long it takes from the navigation to a page until its first socket is open.

use super::{
    Scale,
    line::Line,
    rig::{Rig, quoted},
    sheet::{Is, Row, Subject, Target},
};
use crate::{
    Result,
    browser::{Kind, Tab},
    pages::PageServer,
};

const SUBJECTS: [Subject; 5] =
    [Subject::Native, Subject::Plain, Subject::Mirror, Subject::Exclusive, Subject::Mux];

const OURS: &[Subject] = &[Subject::Mirror, Subject::Exclusive, Subject::Mux];

/// Bytes a second of the slow line.
const SLOW: u32 = 50_000;

/// How a page is loaded.
struct Open {
    row: Row,
    /// Whether another tab has such a socket open.
    is_warm: bool,
    is_slow: bool,
    /// How the scripts are compressed.
    encoding: &'static str,
}

const fn row(name: &'static str, more: f64, cause: &'static str) -> Row {
    let target = Target { of: OURS, is: Is::Near(Subject::Native, more) };
    Row { name, unit: "ms", target: Some(target), cause }
}

static OPENS: [Open; 5] = [
    Open {
        row: row("first open, warm, loopback", 30.0, ""),
        is_warm: true,
        is_slow: false,
        encoding: "br",
    },
    Open {
        row: Row { name: "first open, cold, loopback", unit: "ms", target: None, cause: "" },
        is_warm: false,
        is_slow: false,
        encoding: "br",
    },
    Open {
        row: row("first open, warm, 50 kB/s", 30.0, ""),
        is_warm: true,
        is_slow: true,
        encoding: "br",
    },
    Open {
        row: row("first open, cold, 50 kB/s, brotli", 1500.0, ""),
        is_warm: false,
        is_slow: true,
        encoding: "br",
    },
    Open {
        row: row("first open, cold, 50 kB/s, gzip", 1500.0, ""),
        is_warm: false,
        is_slow: true,
        encoding: "gzip",
    },
];

pub(super) fn steps(_: &Scale) -> usize {
    OPENS.len() * SUBJECTS.len()
}

pub(super) fn measure(rig: &mut Rig) -> Result<()> {
    for _ in 0..rig.scale.runs {
        for open in &OPENS {
            for subject in SUBJECTS {
                rig.progress.step(&format!("{}, {}", open.row.name, subject.name()));
                let way = Way::new(rig, open, subject)?;
                if open.is_warm {
                    load(rig, &way, subject)?;
                }
                let (_, took) = load(rig, &way, subject)?;
                rig.add(&open.row, subject, took);
                rig.clear()?;
            }
        }
    }
    Ok(())
}

/// Pages of an origin that no page was on before, and where their sockets go.
struct Way {
    origin: String,
    socket: String,
    _pages: PageServer,
    _line: Option<Line>,
}

impl Way {
    fn new(rig: &Rig, open: &Open, subject: Subject) -> Result<Self> {
        let pages = rig.new_origin()?;
        pages.ask_for(open.encoding);
        let (origin, socket) = (pages.origin(), rig.echo(subject));
        if !open.is_slow {
            return Ok(Self { origin, socket, _pages: pages, _line: None });
        }
        let server = match subject {
            Subject::Mux => rig.server.port(),
            Subject::Native | Subject::Plain | Subject::Mirror | Subject::Exclusive => {
                rig.plain.port()
            }
        };
        let line = Line::start(SLOW, &[pages.port(), server])?;
        let [page, link] = line.ports() else { return Err("a line without ends".to_owned()) };
        let origin = format!("http://localhost:{page}");
        let socket = format!("ws://127.0.0.1:{link}/echo");
        Ok(Self { origin, socket, _pages: pages, _line: Some(line) })
    }
}

/// Loads a page in a new tab: how long it took until its socket was open.
fn load(rig: &mut Rig, way: &Way, subject: Subject) -> Result<(Tab, f64)> {
    let page = match subject {
        Subject::Native | Subject::Plain => subject.name(),
        Subject::Mirror | Subject::Exclusive | Subject::Mux => "tabmux",
    };
    let url = format!(
        "{}/figures/first-{page}.html?kind={}&url={}",
        way.origin,
        subject.name(),
        way.socket
    );
    let tab = rig.session.browser.open(Kind::Tab, "about:blank")?;
    // The page's clock begins with the navigation.
    rig.session.browser.navigate(&tab, &url)?;
    let took =
        rig.number(&tab, "await opened").map_err(|error| format!("{}: {error}", quoted(&url)))?;
    Ok((tab, took))
}

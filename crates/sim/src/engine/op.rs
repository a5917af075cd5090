//! What scripts ask of the browser around them.

/// One thing that a script asked for. Ids of ports, channels and sockets are of its browser, all
/// others of its realm.
#[expect(missing_docs, reason = "the fields are what the browser's own methods take")]
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Run this timer after so many milliseconds.
    Timer { id: u32, after: f64 },
    /// Do not run it.
    Untimer { id: u32 },
    /// A message for the other end of a port.
    Post { port: u32, data: String },
    /// What came to a port before anybody listened.
    Early { port: u32, data: Vec<String> },
    /// Nothing is heard on a port any more.
    PortClose { port: u32 },
    /// A port to a shared worker is wanted.
    SharedWorker { worker: u32, url: String, name: String, port: u32 },
    /// A worker of its own is wanted.
    Worker { worker: u32, url: String, name: String },
    /// A message for it.
    WorkerPost { worker: u32, data: String },
    /// Its end.
    Terminate { worker: u32 },
    /// A message of such a worker for its page.
    ToOwner { data: String },
    /// It ends itself.
    CloseSelf,
    /// A broadcast channel is wanted.
    Channel { id: u32, name: String },
    /// A message for all others of that name.
    Broadcast { id: u32, data: String },
    /// The channel is not wanted any more.
    ChannelClose { id: u32 },
    /// A lock is wanted.
    Lock { id: u32, name: String, shared: bool, if_available: bool, steal: bool },
    /// It is not, or not any more.
    Unlock { id: u32 },
    /// Storage was changed.
    Stored { key: Option<String>, old: Option<String>, new: Option<String> },
    /// A connection is wanted.
    Dial { socket: u32, url: String, protocols: String },
    /// Text for it.
    SendText { socket: u32, text: String },
    /// Bytes for it.
    SendBytes { socket: u32, bytes: Vec<u8> },
    /// Its end; code 0: none was given.
    HangUp { socket: u32, code: u16, reason: String },
    /// A module is to be loaded.
    Import { id: u32, specifier: String },
    /// The module of WebAssembly is to be compiled.
    Compile { id: u32 },
    /// A line for developers.
    Log { level: String, line: String },
    /// What no script caught.
    Uncaught { text: String },
    /// What the application in a page heard.
    Tell(Vec<Told>),
}

/// One word of what the application heard.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// Yes or no.
    Flag(bool),
}

impl Told {
    /// The text, or an empty one.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Number(_) | Self::Flag(_) => "",
        }
    }

    /// The number, or none.
    pub const fn number(&self) -> Option<u64> {
        match self {
            #[expect(
                clippy::cast_sign_loss,
                clippy::cast_possible_truncation,
                reason = "saturates"
            )]
            Self::Number(number) => Some(*number as u64),
            Self::Text(_) | Self::Flag(_) => None,
        }
    }
}

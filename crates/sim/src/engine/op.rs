//! What scripts ask of the browser around them.

/// One thing that a script asked for. Ids of ports, channels and sockets belong to the browser. All
/// other ids belong to the realm.
#[expect(missing_docs, reason = "the fields are what the browser's own methods take")]
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Starts a timer that fires after so many milliseconds.
    Timer { id: u32, after: f64 },
    /// Stops a timer of the realm.
    Untimer { id: u32 },
    /// Posts a message to the other end of a port.
    Post { port: u32, data: String },
    /// Messages came to a port before the page listened.
    Early { port: u32, data: Vec<String> },
    /// Closes a port, on which nothing is heard any more.
    PortClose { port: u32 },
    /// Asks for a port to a shared worker.
    SharedWorker { worker: u32, url: String, name: String, port: u32 },
    /// Starts a worker that belongs to this page alone.
    Worker { worker: u32, url: String, name: String },
    /// Posts a message to a worker of this page.
    WorkerPost { worker: u32, data: String },
    /// Ends a worker of this page.
    Terminate { worker: u32 },
    /// Posts a message from such a worker to its page.
    ToOwner { data: String },
    /// The worker ends itself.
    CloseSelf,
    /// Opens a broadcast channel.
    Channel { id: u32, name: String },
    /// Sends a message to all other channels of this name.
    Broadcast { id: u32, data: String },
    /// Closes a broadcast channel.
    ChannelClose { id: u32 },
    /// Requests a Web Lock.
    Lock { id: u32, name: String, shared: bool, if_available: bool, steal: bool },
    /// Releases a lock, or stops waiting for it.
    Unlock { id: u32 },
    /// Tells that localStorage was changed.
    Stored { key: Option<String>, old: Option<String>, new: Option<String> },
    /// Dials a connection to a server.
    Dial { socket: u32, url: String, protocols: String },
    /// Sends a text on a connection.
    SendText { socket: u32, text: String },
    /// Sends bytes on a connection.
    SendBytes { socket: u32, bytes: Vec<u8> },
    /// Closes a connection. Code 0 means that the script gave none.
    HangUp { socket: u32, code: u16, reason: String },
    /// Imports a module by its specifier.
    Import { id: u32, specifier: String },
    /// Compiles the WebAssembly module.
    Compile { id: u32 },
    /// Writes a line to the console.
    Log { level: String, line: String },
    /// Throws an error that no script caught.
    Uncaught { text: String },
    /// Tells what the application in a page heard.
    Tell(Vec<Told>),
}

/// One value of what the application heard.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A number of JavaScript.
    Number(f64),
    /// A text, as a string.
    Text(String),
    /// A boolean of JavaScript.
    Flag(bool),
}

impl Told {
    /// Returns the text, or an empty one for other values.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Number(_) | Self::Flag(_) => "",
        }
    }

    /// Returns the number, if the value is one.
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

/// Moves news that a topic is ready before what its listeners tell. A browser carries out the jobs
/// of promises between two listeners of an event, and so between the messages of a batch. The
/// engine carries them out behind all listeners.
pub(super) fn in_turn(mut ops: Vec<Op>) -> Vec<Op> {
    let of_topic = |op: &Op, kinds: &[&str]| match op {
        Op::Tell(told) if told.first().is_some_and(|it| kinds.contains(&it.text())) => {
            told.get(1).and_then(Told::number)
        }
        _ => None,
    };
    for index in 0..ops.len() {
        if let Some(topic) = of_topic(&ops[index], &["ready"]) {
            let earlier = ops[..index].iter();
            let mut heard = earlier.map(|op| of_topic(op, &["publication", "gap"]));
            if let Some(first) = heard.position(|of| of == Some(topic)) {
                ops[first..=index].rotate_right(1);
            }
        }
    }
    ops
}

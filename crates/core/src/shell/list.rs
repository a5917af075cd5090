//! The methods by which a hub and its shell call each other, listed once: for the wasm module,
//! which exports and imports them, and for the simulator, which calls them from its own engine.

/// Calls the macro `$with` with each method of a hub: its name in Rust, its name in JavaScript, and
/// what it takes behind the time in milliseconds. Each returns the moment of the next wake-up.
#[macro_export]
macro_rules! hub_methods {
    ($with:ident) => {
        $with! {
            /// A tab attached; it shows what it was told to show, and how much it has.
            attach = "attach"(tab: u64, claim: &str, last0: f64, last: f64);
            /// A tab has heard so much.
            got = "got"(tab: u64, count0: f64, frames: f64);
            /// A tab is visible.
            visible = "visible"(tab: u64, online: bool);
            /// A tab answered a question. `failure` says why not, and is empty if it did. What it
            /// answered is the shell's, which says whether that is new.
            answer = "answer"(tab: u64, id: u32, failure: &str, fresh: bool);
            /// A tab asks for its credentials to be renewed.
            renew = "renew"(tab: u64);
            /// A tab parked.
            park = "park"(tab: u64);
            /// A tab said bye.
            bye = "bye"(tab: u64);
            /// A tab opens a socket; `protocols` are separated by commas, which none can contain.
            /// `n` is the number of this message of the tab, as in those that follow.
            open = "open"(tab: u64, n: f64, socket: u32, path: &str, protocols: &str);
            /// A tab sends text.
            send_text = "sendText"(tab: u64, n: f64, socket: u32, text: &str);
            /// A tab sends bytes.
            send_binary = "sendBinary"(tab: u64, n: f64, socket: u32, bytes: &[u8]);
            /// A tab closes a socket.
            close = "close"(tab: u64, n: f64, socket: u32, code: u16, reason: &str);
            /// A tab lets the server send more on a socket.
            credit = "credit"(tab: u64, n: f64, socket: u32, bytes: f64);
            /// A tab wants a topic, which it left at this position; at an epoch below 0 if it never
            /// heard of the topic.
            subscribe = "subscribe"(tab: u64, number: u32, name: &str, epoch: f64, offset: f64);
            /// A tab wants a topic no more.
            unsubscribe = "unsubscribe"(tab: u64, number: u32);
            /// A tab asks for a new link.
            reconnect = "reconnect"(tab: u64);
            /// A tab asks whose the browser is.
            whose = "whose"(tab: u64);
            /// A tab ends the session.
            logout = "logout"(tab: u64);
            /// The lock of a tab was granted.
            tab_lock_granted = "tabLockGranted"(tab: u64);
            /// The lock of the link was granted.
            link_lock_granted = "linkLockGranted"();
            /// The link is open.
            link_opened = "linkOpened"(attempt: u32, protocol: &str, extensions: &str);
            /// Text came on the link.
            link_text = "linkText"(attempt: u32, text: &str);
            /// Bytes came on the link.
            link_binary = "linkBinary"(attempt: u32, bytes: &[u8]);
            /// The link is closed. `failed`: the browser said that it failed it.
            link_closed = "linkClosed"(
                attempt: u32, code: u16, reason: &str, clean: bool, failed: bool
            );
            /// How a shared connection behaves, told before anything else.
            rules = "rules"(replay: f64, linger: f64, min: f64, max: f64, attempts: f64);
            /// Text came on the link that names a tab.
            link_to = "linkTo"(attempt: u32, name: &str, text: &str);
            /// The server said whose the browser is. `text` is what it said, or `refused`, or
            /// empty.
            who = "who"(text: &str);
            /// Another hub has the lock of the key and tag.
            tag_taken = "tagTaken"();
            /// The shared connection ends for all tabs.
            reset = "reset"();
            /// The network came or went.
            network_changed = "networkChanged"(online: bool);
            /// Time has passed; the link still holds so many bytes.
            wake = "wake"(attempt: u32, buffered: f64);
        }
    };
}

/// Calls the macro `$with` with each method of a shell: its name in Rust, its name in JavaScript,
/// and what it takes. Bytes must be copied by the shell.
#[macro_export]
macro_rules! shell_methods {
    ($with:ident) => {
        $with! {
            /// Asks for the lock of the link.
            request_lock = "requestLock"();
            /// Lets go of it.
            release_lock = "releaseLock"();
            /// Opens the link.
            open_link = "openLink"(attempt: u32);
            /// Sends text on it.
            send_text = "sendLink"(attempt: u32, text: &str);
            /// Sends bytes on it.
            send_binary = "sendLink"(attempt: u32, bytes: &[u8]);
            /// Sends bytes on it, and the credentials behind them that a tab told last.
            send_shown = "sendShown"(attempt: u32, bytes: &[u8]);
            /// Closes it.
            close_link = "closeLink"(attempt: u32, code: u16, reason: &str);
            /// Asks the server whose the browser is.
            ask_who = "askWho"();
            /// Shows a ticket to the server, at a path of the link's host.
            show_ticket = "showTicket"(ticket: &str, path: &str);
            /// Takes the lock of the key and this tag, and tells if another hub has it.
            take_tag = "takeTag"(tag: &str);
            /// Tells the hub when the lock of this tab is free.
            watch_tab = "watchTab"(tab: u64);
            /// Forgets a tab.
            drop_tab = "dropTab"(tab: u64);
            /// Posts `[kind, hub, ...numbers]` to the tabs.
            post = "post"(tabs: &[u64], kind: u8, numbers: &[f64]);
            /// The same with text at the end.
            post_text = "post"(tabs: &[u64], kind: u8, numbers: &[f64], data: &str);
            /// The same with bytes at the end.
            post_binary = "post"(tabs: &[u64], kind: u8, numbers: &[f64], data: &[u8]);
            /// Shows a line to developers.
            log = "log"(line: &str);
            /// Appends to the trace.
            record = "record"(bytes: &[u8]);
        }
    };
}

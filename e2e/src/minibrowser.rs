//! MiniBrowser without a driver. Each page runs a small agent that takes scripts over a WebSocket.
//!
//! WebKitWebDriver ends its session as soon as the process of any page dies, and a browser under
//! its control sends no storage events. A browser without automation has neither fault.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tungstenite::{Error, Message, WebSocket};

use crate::{
    Result, Stop,
    browser::{Command, Transport},
    http, ports, process, wait,
};

/// The server to which agents report, and which serves the first page of every tab.
#[derive(Debug)]
pub struct Agents {
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    agents: BTreeMap<String, Agent>,
    answers: BTreeMap<u64, Value>,
}

/// The state of one tab.
#[derive(Debug)]
struct Agent {
    /// The channel for scripts. Sending fails if the page is gone.
    scripts: Sender<String>,
    /// Number of loads of a page that have reported so far.
    loads: u64,
    here: bool,
}

impl Agents {
    /// Listens on a free port of this machine.
    pub fn start() -> Result<Self> {
        let port = ports::free()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .map_err(|error| format!("cannot listen for agents: {error}"))?;
        let shared = Arc::<Mutex<Shared>>::default();
        let sink = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sink = Arc::clone(&sink);
                // A page may go away in the middle of a message, which is no error here.
                thread::spawn(move || drop(serve(stream, &sink)));
            }
        });
        Ok(Self { port, shared })
    }

    /// Returns the page to start a tab with. Its fragment tells the agent its name. Its site
    /// differs from that of the tests' pages, because WebKit lets one process of a site run the
    /// workers of all.
    pub fn first_page(&self, handle: &str) -> String {
        format!("http://127.0.0.1:{}/{}", self.port, self.fragment(handle))
    }

    fn fragment(&self, handle: &str) -> String {
        format!("#agent={}.{handle}", self.port)
    }
}

/// The harness's end of a session with agents.
#[derive(Debug)]
pub struct MiniBrowser {
    agents: Agents,
    /// The process group of the browser.
    group: i32,
    current: String,
    handles: Vec<String>,
    /// For each tab that was asked for: its process, and the number of loads before that.
    processes: BTreeMap<String, (u64, i64)>,
    last: u64,
}

/// The name of the tab with which the browser was started.
pub const HOME: &str = "home";

impl MiniBrowser {
    /// Waits for the home tab of a browser that was started with its [`Agents::first_page`].
    pub fn connect(agents: Agents, group: i32, start: Duration) -> Result<Self> {
        let (current, handles) = (HOME.to_owned(), vec![HOME.to_owned()]);
        let browser = Self { agents, group, current, handles, processes: BTreeMap::new(), last: 0 };
        browser.wait_for_load(HOME, 0, start)?;
        Ok(browser)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.agents.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loads(&self, handle: &str) -> u64 {
        self.shared().agents.get(handle).map_or(0, |agent| agent.loads)
    }

    fn wait_for_load(&self, handle: &str, before: u64, within: Duration) -> Result<()> {
        wait::until("the page to load", within, || {
            let loads = self.loads(handle);
            if loads > before { Ok(()) } else { Err(format!("{loads} loads of tab {handle}")) }
        })
    }

    /// Sends the body of a function to a tab. The function passes its answer to the last of its
    /// arguments.
    fn post(&mut self, handle: &str, script: &str) -> Result<u64> {
        self.last += 1;
        let message = json!({ "id": self.last, "script": script }).to_string();
        let shared = self.shared();
        let agent = shared.agents.get(handle).filter(|agent| agent.here);
        let sent = agent.is_some_and(|agent| agent.scripts.send(message).is_ok());
        drop(shared);
        if sent { Ok(self.last) } else { Err(format!("no page answers in tab {handle}")) }
    }

    fn execute(&mut self, handle: &str, script: &str) -> Result<Value> {
        let id = self.post(handle, script)?;
        wait::until("an answer of the page", TIMEOUT, || {
            let mut shared = self.shared();
            let answer = shared.answers.remove(&id);
            let here = shared.agents.get(handle).is_some_and(|agent| agent.here);
            match answer {
                Some(answer) => Ok(Ok(answer)),
                None if here => Err("none".into()),
                None => Ok(Err(format!("the page of tab {handle} is gone"))),
            }
        })?
    }

    /// Runs a script that ends the page, and waits for the next page of the tab.
    fn leave(&mut self, script: &str) -> Result<Value> {
        let handle = self.current.clone();
        let before = self.loads(&handle);
        self.post(&handle, script)?;
        self.wait_for_load(&handle, before, TIMEOUT)?;
        Ok(Value::Null)
    }

    fn open(&mut self) -> Result<Value> {
        self.last += 1;
        let handle = format!("tab{}", self.last);
        let url = json!(self.agents.first_page(&handle));
        // A tab without an opener gets a process of its own.
        let script = format!("window.open({url}, '', 'noopener'); arguments[0]({{ value: 1 }})");
        self.execute(HOME, &script)?;
        self.wait_for_load(&handle, 0, TIMEOUT)?;
        self.handles.push(handle.clone());
        Ok(json!({ "handle": handle }))
    }

    fn close(&mut self) -> Result<Value> {
        let handle = self.current.clone();
        self.handles.retain(|other| *other != handle);
        // If the page's process is dead already, nothing is left that could close the tab.
        if self.post(&handle, "window.close()").is_ok() {
            wait::until("the tab to close", TIMEOUT, || {
                let here = self.shared().agents.get(&handle).is_some_and(|agent| agent.here);
                if here { Err("its page is there".to_owned()) } else { Ok(()) }
            })?;
        }
        self.shared().agents.remove(&handle);
        Ok(Value::Null)
    }

    /// Returns the process of the current tab. It must be asked while the tabs are quiet. The
    /// answer is kept until the tab shows another page.
    fn find_process(&mut self) -> Result<i64> {
        let handle = self.current.clone();
        let loads = self.loads(&handle);
        if let Some((_, process)) = self.processes.get(&handle).filter(|(at, _)| *at == loads) {
            return Ok(*process);
        }
        let process = self.burning_process(&handle)?;
        self.processes.insert(handle, (loads, process));
        Ok(process)
    }

    /// Returns the process that uses CPU time while a script of the page keeps it busy. Other pages
    /// and workers may be busy as well, so this is repeated until no other process comes near it.
    fn burning_process(&mut self, handle: &str) -> Result<i64> {
        let before = process::times(self.group, PAGES);
        wait::until("one process to burn time", TIMEOUT, || {
            self.execute(handle, BURN)?;
            let grown = process::times(self.group, PAGES).into_iter().map(|(process, time)| {
                (time.saturating_sub(before.get(&process).copied().unwrap_or(0)), process)
            });
            let mut grown: Vec<_> = grown.collect();
            grown.sort_unstable();
            let second = grown.iter().rev().nth(1).map_or(0, |(second, _)| *second);
            match grown.last() {
                Some((most, process)) if *most > 10.max(second * 3 / 2) => Ok(*process),
                _ => Err(format!("ticks and processes: {grown:?}")),
            }
        })
    }
}

/// A script that is busy for 200 ms, which is twenty ticks of an idle machine's kernel.
const BURN: &str = "const end = performance.now() + 200;
    while (performance.now() < end);
    arguments[0]({ value: 1 })";

/// The name of the processes of pages, as far as the kernel keeps it.
const PAGES: &str = "WebKitWebProces";

impl Transport for MiniBrowser {
    fn call(&mut self, command: Command, parameters: Value) -> Result<Value> {
        match command.marionette {
            "WebDriver:SetTimeouts" => Ok(Value::Null),
            "WebDriver:GetWindowHandle" => Ok(json!(self.current)),
            "WebDriver:GetWindowHandles" => Ok(json!(self.handles)),
            "WebDriver:NewWindow" => self.open(),
            "WebDriver:SwitchToWindow" => {
                let handle = parameters["handle"].as_str().unwrap_or_default();
                self.current = handle.to_owned();
                Ok(Value::Null)
            }
            "WebDriver:CloseWindow" => self.close(),
            "WebDriver:Navigate" => {
                let url = parameters["url"].as_str().unwrap_or_default();
                let url = json!(format!("{url}{}", self.agents.fragment(&self.current)));
                self.leave(&format!("location.href = {url}"))
            }
            "WebDriver:Refresh" => self.leave("location.reload()"),
            "WebDriver:Back" => self.leave("history.back()"),
            "WebDriver:ExecuteAsyncScript" => {
                let script = parameters["script"].as_str().unwrap_or_default();
                let handle = self.current.clone();
                self.execute(&handle, script)
            }
            other => Err(format!("the agents have no command {other}")),
        }
    }

    fn crash(&mut self) -> std::result::Result<(), Stop> {
        let process = self.find_process()?;
        process::kill_one(process)?;
        Ok(())
    }

    fn process(&mut self) -> Result<Option<i64>> {
        self.find_process().map(Some)
    }

    fn freeze(&mut self, _: bool) -> std::result::Result<(), Stop> {
        Err(Stop::Skipped("no command of WebKitGTK freezes a tab".into()))
    }

    fn end_workers(&mut self) -> std::result::Result<usize, Stop> {
        Err(Stop::Skipped("no command of WebKitGTK ends a worker and no tab".into()))
    }
}

/// Longest time for a page to load or to answer.
const TIMEOUT: Duration = Duration::from_secs(20);

const FIRST_PAGE: &str = "<!doctype html><meta charset=utf-8><title>agent</title>
<link rel=icon href='data:,'><script src=/agent.js></script>";

/// Serves one connection: the first page, its script, or an agent.
fn serve(mut stream: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut head = [0; 4096];
    let mut length = stream.peek(&mut head)?;
    let start = Instant::now();
    while !head[..length].windows(4).any(|end| end == b"\r\n\r\n") {
        if length == 0 || start.elapsed() > Duration::from_secs(10) {
            return Ok(());
        }
        thread::yield_now();
        length = stream.peek(&mut head)?;
    }
    let head = String::from_utf8_lossy(&head[..length]).to_ascii_lowercase();
    let path = head.split(' ').nth(1).unwrap_or("/");
    if head.contains("upgrade: websocket") {
        let handle = path.trim_start_matches('/').to_owned();
        let socket = tungstenite::accept(stream).map_err(std::io::Error::other)?;
        return attend(socket, &handle, shared);
    }
    let (kind, body) = match path {
        "/agent.js" => ("text/javascript", include_str!("../pages/agent.js")),
        _ => ("text/html", FIRST_PAGE),
    };
    http::read_head(&stream)?;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\
         \r\n{body}",
        body.len()
    )
}

/// Sends scripts to an agent and returns its answers, until its page is gone.
fn attend(
    mut socket: WebSocket<TcpStream>,
    handle: &str,
    shared: &Mutex<Shared>,
) -> std::io::Result<()> {
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let (scripts, waiting) = mpsc::channel();
    {
        let mut shared = lock();
        let loads = shared.agents.get(handle).map_or(1, |agent| agent.loads + 1);
        shared.agents.insert(handle.to_owned(), Agent { scripts, loads, here: true });
    }
    socket.get_ref().set_read_timeout(Some(Duration::from_millis(2)))?;
    let mine = lock().agents.get(handle).map_or(0, |agent| agent.loads);
    let outcome = exchange(&mut socket, &waiting, &lock);
    if let Some(agent) = lock().agents.get_mut(handle).filter(|agent| agent.loads == mine) {
        agent.here = false;
    }
    outcome
}

fn exchange<'a>(
    socket: &mut WebSocket<TcpStream>,
    waiting: &Receiver<String>,
    lock: &impl Fn() -> MutexGuard<'a, Shared>,
) -> std::io::Result<()> {
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => {
                let mut answer: Value =
                    serde_json::from_str(&text).map_err(std::io::Error::other)?;
                let id = answer["id"].as_u64().unwrap_or_default();
                lock().answers.insert(id, answer["answer"].take());
            }
            Ok(_) => {}
            Err(Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(std::io::Error::other(error)),
        }
        for script in waiting.try_iter() {
            socket.send(Message::text(script)).map_err(std::io::Error::other)?;
        }
    }
}

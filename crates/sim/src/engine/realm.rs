//! A realm: one page or one worker, with globals of its own, in which shipped scripts run.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::LazyLock,
};

use rquickjs::{
    Array, BigInt, Context, Ctx, Exception, Function, IntoJs, Object, Persistent, Runtime,
    TypedArray, Value,
    context::intrinsic,
    function::{Args, Rest},
};

use super::{
    code::Code,
    hub::{Arg, CallError, NativeHub, methods},
    op::{Op, Told, in_turn},
    scripts::Scripts,
};
use crate::rng::Rng;

/// The script that models the browser around the shipped scripts.
static BROWSER: LazyLock<Code> =
    LazyLock::new(|| Code::new("browser.js", include_str!("browser.js").into()));
/// The script of the application in a page.
static PAGE: LazyLock<Code> =
    LazyLock::new(|| Code::new("page.js", include_str!("page.js").into()));
/// Largest size of the memory of all realms of one engine, in bytes.
const MEMORY: usize = 1 << 30;
/// Bytes that are allocated before the engine collects garbage that refers to itself.
const GARBAGE: usize = 64 << 20;
/// How often the engine may ask within one task whether to go on. That is some seconds.
const PATIENCE: u32 = 3000;

/// All intrinsics but ambient ones: no clock, no `performance`, and nothing that shows the garbage
/// collector.
type Intrinsics = (
    intrinsic::Eval,
    intrinsic::RegExpCompiler,
    intrinsic::RegExp,
    intrinsic::Json,
    intrinsic::Proxy,
    intrinsic::MapSet,
    intrinsic::TypedArrays,
    intrinsic::Promise,
    intrinsic::DOMException,
);

/// The kind of a realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A page with the page library.
    Page,
    /// A shared worker of several pages.
    Shared,
    /// A dedicated worker of one page.
    Dedicated,
}

/// Features that a browser lacks or refuses, by these names: `locks`, `channels`, `storage`,
/// `shared`, `workers`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Features that the browser does not have.
    pub lacks: Vec<&'static str>,
    /// Features that the browser has, and that throw when they are used.
    pub refuses: Vec<&'static str>,
    /// Features of `refuses` that have thrown.
    pub refused: BTreeSet<&'static str>,
}

/// The entries of localStorage.
pub type Storage = Rc<RefCell<BTreeMap<String, String>>>;

/// The part of the world that a realm asks synchronously.
pub struct Host {
    /// The clock of the machine, in microseconds.
    pub clock: Cell<u64>,
    /// True if the browser says that there is a network.
    pub online: Cell<bool>,
    /// The generator of all random numbers of the realm.
    pub rng: RefCell<Rng>,
    /// For a page: the upper half of all 64-bit numbers that it draws. The world knows by it which
    /// page a tab belongs to.
    pub tag: Option<u32>,
    /// The features that the browser lacks or refuses.
    pub faults: RefCell<Faults>,
    /// The localStorage of the browser.
    pub storage: RefCell<Storage>,
    /// Bytes that wait in the realm's sockets.
    pub buffered: RefCell<BTreeMap<u32, u64>>,
    /// The realm's hubs, by number.
    pub hubs: RefCell<BTreeMap<u32, NativeHub>>,
    /// True if hubs have small limits.
    pub small: bool,
    /// What scripts asked for since the last task.
    ops: RefCell<Vec<Op>>,
    /// The latest id of a port or a socket of the browser.
    ids: Rc<Cell<u32>>,
    panicked: Cell<bool>,
}

/// The JavaScript engine of all realms.
pub struct Engine {
    runtime: Runtime,
    rejected: Rc<RefCell<Vec<String>>>,
    patience: Rc<Cell<u32>>,
}

/// A page or a worker in the engine.
pub struct Realm {
    context: Context,
    deliver: Persistent<Function<'static>>,
    rejected: Rc<RefCell<Vec<String>>>,
    runtime: Runtime,
    patience: Rc<Cell<u32>>,
    /// The part of the world that the realm asks synchronously.
    pub host: Rc<Host>,
}

/// An argument of a task.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// A number of JavaScript.
    Number(f64),
    /// A text, as a string.
    Text(String),
    /// A text, or null if it is `None`.
    Maybe(Option<String>),
    /// A boolean of JavaScript.
    Flag(bool),
}

impl Host {
    /// Returns the host of a realm of this browser. All random numbers come from `rng`.
    pub fn new(rng: Rng, tag: Option<u32>, small: bool, ids: Rc<Cell<u32>>) -> Self {
        Self {
            clock: Cell::new(0),
            online: Cell::new(true),
            rng: RefCell::new(rng),
            tag,
            faults: RefCell::default(),
            storage: RefCell::default(),
            buffered: RefCell::default(),
            hubs: RefCell::default(),
            small,
            ops: RefCell::default(),
            ids,
            panicked: Cell::new(false),
        }
    }

    /// Returns true if a hub panicked and no test asked for it.
    pub fn has_panicked(&self) -> bool {
        self.panicked.get()
    }

    fn random64(&self) -> u64 {
        let drawn = self.rng.borrow_mut().next();
        match self.tag {
            Some(tag) => u64::from(tag) << 32 | drawn & 0xffff_ffff,
            None => drawn,
        }
    }

    fn push(&self, op: Op) {
        self.ops.borrow_mut().push(op);
    }
}

impl Engine {
    /// Returns an engine without realms.
    ///
    /// # Errors
    /// Returns an error if there is no memory for it.
    pub fn new() -> rquickjs::Result<Self> {
        let runtime = Runtime::new()?;
        runtime.set_memory_limit(MEMORY);
        runtime.set_max_stack_size(512 << 10);
        runtime.set_gc_threshold(GARBAGE);
        let rejected = Rc::<RefCell<Vec<String>>>::default();
        let all = Rc::clone(&rejected);
        runtime.set_host_promise_rejection_tracker(Some(Box::new(move |_, _, reason, handled| {
            let text = describe(&reason);
            let mut all = all.borrow_mut();
            if !handled {
                all.push(text);
            } else if let Some(at) = all.iter().position(|it| *it == text) {
                all.remove(at);
            }
        })));
        let patience = Rc::new(Cell::new(0));
        let left = Rc::clone(&patience);
        runtime.set_interrupt_handler(Some(Box::new(move || {
            left.set(left.get() + 1);
            left.get() > PATIENCE
        })));
        Ok(Self { runtime, rejected, patience })
    }

    /// Returns a page or a worker in which nothing has run yet.
    ///
    /// # Errors
    /// Returns an error if the script of the browser around it does not start.
    pub fn realm(&self, role: Role, name: &str, href: &str, host: Host) -> rquickjs::Result<Realm> {
        let context = Context::custom::<Intrinsics>(&self.runtime)?;
        let host = Rc::new(host);
        let deliver = context.with(|ctx| {
            let make = exported(&ctx, &BROWSER)?;
            let ask = ask(&ctx, Rc::clone(&host))?;
            let role = match role {
                Role::Page => "page",
                Role::Shared => "shared",
                Role::Dedicated => "dedicated",
            };
            let deliver: Function<'_> = make.call((ask, role, name, href, methods()))?;
            Ok::<_, rquickjs::Error>(Persistent::save(&ctx, deliver))
        })?;
        let (rejected, runtime) = (Rc::clone(&self.rejected), self.runtime.clone());
        let patience = Rc::clone(&self.patience);
        Ok(Realm { context, deliver, rejected, runtime, patience, host })
    }
}

impl Realm {
    /// Runs the page library and the application of a page.
    pub fn run_page(&self, scripts: &Scripts, url: &str) -> Vec<Op> {
        self.enter(|ctx| {
            let module = scripts.client.declare(ctx)?;
            module.meta()?.set("url", url)?;
            let (module, _) = module.eval()?;
            let start = exported(ctx, &PAGE)?;
            let host = Rc::clone(&self.host);
            let tell = Function::new(ctx.clone(), move |args: Rest<Value<'_>>| {
                host.push(Op::Tell(args.0.iter().map(told).collect()));
            })?;
            start.call::<_, ()>((module.namespace()?, tell))
        })
    }

    /// Runs the script of a worker.
    pub fn run_worker(&self, scripts: &Scripts) -> Vec<Op> {
        self.enter(|ctx| scripts.worker.declare(ctx)?.eval().map(drop))
    }

    /// Runs any script. Tests use it.
    pub fn run(&self, script: &str) -> Vec<Op> {
        self.enter(|ctx| ctx.eval::<(), _>(script))
    }

    /// Called when a module that was asked for has arrived.
    pub fn imported(&self, id: u32, url: &str, code: &Code) -> Vec<Op> {
        let deliver = self.deliver.clone();
        self.enter(|ctx| {
            let module = code.declare(ctx)?;
            module.meta()?.set("url", url)?;
            let (module, _) = module.eval()?;
            deliver.restore(ctx)?.call::<_, ()>(("settle", id, true, module.namespace()?))
        })
    }

    /// Runs a task and all Promise jobs that follow. Returns what the realm asked for meanwhile.
    pub fn deliver(&self, task: &str, given: &[Given]) -> Vec<Op> {
        let deliver = self.deliver.clone();
        self.enter(|ctx| {
            let mut args = Args::new(ctx.clone(), given.len() + 1);
            args.push_arg(task)?;
            for it in given {
                match it {
                    Given::Number(number) => args.push_arg(*number)?,
                    Given::Text(text) => args.push_arg(text.as_str())?,
                    Given::Maybe(None) => args.push_arg(rquickjs::Null)?,
                    Given::Maybe(Some(text)) => args.push_arg(text.as_str())?,
                    Given::Flag(flag) => args.push_arg(*flag)?,
                }
            }
            deliver.restore(ctx)?.call_arg::<()>(args)
        })
    }

    fn enter(&self, work: impl FnOnce(&Ctx<'_>) -> rquickjs::Result<()>) -> Vec<Op> {
        self.patience.set(0);
        self.context.with(|ctx| {
            if let Err(error) = work(&ctx) {
                let thrown = ctx.catch();
                let text = format!("{error}: {}", describe(&thrown));
                self.host.push(Op::Uncaught { text });
            }
            while ctx.execute_pending_job() {}
        });
        for text in self.rejected.take() {
            self.host.push(Op::Uncaught { text: format!("(in promise) {text}") });
        }
        in_turn(self.host.ops.take())
    }

    /// Returns the runtime of the realm's engine.
    pub const fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

/// Returns the function that a module exports.
fn exported<'js>(ctx: &Ctx<'js>, code: &Code) -> rquickjs::Result<Function<'js>> {
    code.declare(ctx)?.eval()?.0.get("default")
}

/// Returns the function that scripts call for everything that needs a browser.
fn ask<'js>(ctx: &Ctx<'js>, host: Rc<Host>) -> rquickjs::Result<Function<'js>> {
    Function::new(ctx.clone(), move |ctx: Ctx<'js>, args: Rest<Value<'js>>| {
        answer_value(&ctx, &host, &args.0)
    })
}

fn describe(value: &Value<'_>) -> String {
    if let Some(exception) = value.as_object().and_then(|it| Exception::from_object(it.clone())) {
        let message = exception.message().unwrap_or_default();
        return format!("{message} {}", exception.stack().unwrap_or_default());
    }
    match value.as_object() {
        Some(object) => object.get::<_, String>("message").unwrap_or_default(),
        None => text(value),
    }
}

fn told(value: &Value<'_>) -> Told {
    if let Some(flag) = value.as_bool() {
        Told::Flag(flag)
    } else if let Some(number) = value.as_number() {
        Told::Number(number)
    } else {
        Told::Text(text(value))
    }
}

fn text(value: &Value<'_>) -> String {
    value.as_string().and_then(|it| it.to_string().ok()).unwrap_or_default()
}

/// The arguments of one call of `host`.
struct Words<'a, 'js>(&'a [Value<'js>]);

impl<'js> Words<'_, 'js> {
    fn at(&self, at: usize) -> Option<&Value<'js>> {
        self.0.get(at + 1)
    }

    fn text(&self, at: usize) -> String {
        self.at(at).map(text).unwrap_or_default()
    }

    fn number(&self, at: usize) -> f64 {
        self.at(at).and_then(Value::as_number).unwrap_or_default()
    }

    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "saturates")]
    fn id(&self, at: usize) -> u32 {
        self.number(at) as u32
    }

    fn flag(&self, at: usize) -> bool {
        self.at(at).and_then(Value::as_bool).unwrap_or_default()
    }

    fn big(&self, at: usize) -> u64 {
        self.at(at).and_then(big).unwrap_or_default()
    }
}

fn big(value: &Value<'_>) -> Option<u64> {
    // The number wraps around, as BigInt.asUintN(64, …) does.
    value.as_big_int().cloned().and_then(|it| it.to_i64().ok()).map(i64::cast_unsigned)
}

#[expect(clippy::cast_precision_loss, reason = "numbers of scripts")]
fn answer_value<'js>(
    ctx: &Ctx<'js>,
    host: &Host,
    args: &[Value<'js>],
) -> rquickjs::Result<Value<'js>> {
    let words = Words(args);
    let what = args.first().map(text).unwrap_or_default();
    let millis = host.clock.get() as f64 / 1000.0;
    match what.as_str() {
        "online" => host.online.get().into_js(ctx),
        "now" => millis.into_js(ctx),
        // The date is some day in 2026.
        "date" => (1_780_000_000_000.0 + millis.floor()).into_js(ctx),
        "random" => {
            let drawn = host.rng.borrow_mut().next() >> 11;
            (drawn as f64 / (1_u64 << 53) as f64).into_js(ctx)
        }
        "random64" => BigInt::from_u64(ctx.clone(), host.random64())?.into_js(ctx),
        "id" => {
            host.ids.set(host.ids.get() + 1);
            host.ids.get().into_js(ctx)
        }
        "has" => {
            let what = words.text(0);
            (!host.faults.borrow().lacks.iter().any(|it| *it == what)).into_js(ctx)
        }
        "refuses" => {
            let what = words.text(0);
            let mut faults = host.faults.borrow_mut();
            let refused = faults.refuses.iter().copied().find(|it| *it == what);
            faults.refused.extend(refused);
            refused.is_some().into_js(ctx)
        }
        "buffered" => {
            let all = host.buffered.borrow();
            (all.get(&words.id(0)).copied().unwrap_or(0) as f64).into_js(ctx)
        }
        "storageGet" => host.storage.borrow().borrow().get(&words.text(0)).cloned().into_js(ctx),
        "storageSet" | "storageRemove" | "storageClear" => {
            store(host, &what, &words);
            true.into_js(ctx)
        }
        "hubNew" => hub_new(ctx, host, &words),
        "hub" => hub_call(ctx, host, &words),
        _ => {
            match parse(&what, &words) {
                Some(op) => host.push(op),
                None => return Err(Exception::throw_type(ctx, &format!("host has no {what}"))),
            }
            Ok(Value::new_undefined(ctx.clone()))
        }
    }
}

fn store(host: &Host, what: &str, words: &Words<'_, '_>) {
    let storage = host.storage.borrow();
    let mut storage = storage.borrow_mut();
    let key = words.text(0);
    let (old, new) = match what {
        "storageSet" => {
            let new = words.text(1);
            (storage.insert(key.clone(), new.clone()), Some(new))
        }
        "storageRemove" => (storage.remove(&key), None),
        _ => {
            storage.clear();
            return host.push(Op::Stored { key: None, old: None, new: None });
        }
    };
    if old != new {
        host.push(Op::Stored { key: Some(key), old, new });
    }
}

fn hub_new<'js>(
    ctx: &Ctx<'js>,
    host: &Host,
    words: &Words<'_, 'js>,
) -> rquickjs::Result<Value<'js>> {
    let (number, mux, id, seed) = (words.id(0), words.flag(1), words.big(2), words.big(3));
    let (url, asks, who) = (words.text(4), words.flag(5), words.flag(6));
    let (tag, record) = (words.text(7), words.flag(8));
    let hub = NativeHub::new(mux, id, seed, &url, &tag, [asks, who, record, host.small]);
    let orders = orders(ctx, &hub, -1.0);
    host.hubs.borrow_mut().insert(number, hub);
    orders
}

fn hub_call<'js>(
    ctx: &Ctx<'js>,
    host: &Host,
    words: &Words<'_, 'js>,
) -> rquickjs::Result<Value<'js>> {
    let mut hubs = host.hubs.borrow_mut();
    let Some(hub) = hubs.get_mut(&words.id(0)) else {
        return Err(Exception::throw_message(ctx, "there is no such hub"));
    };
    let given: Array<'js> =
        words.at(2).and_then(Value::as_array).cloned().unwrap_or(Array::new(ctx.clone())?);
    let args = given.iter::<Value<'js>>().map(|it| it.and_then(|it| arg(ctx, &it)));
    let args = args.collect::<rquickjs::Result<Vec<_>>>()?;
    match hub.call(&words.text(1), &args) {
        Ok(wake) => orders(ctx, hub, wake),
        Err(CallError::NoSuchCall(why)) => Err(Exception::throw_type(ctx, &why)),
        Err(CallError::Trapped) => Err(Exception::throw_message(ctx, "unreachable")),
        Err(CallError::Panicked) => {
            host.panicked.set(true);
            Err(Exception::throw_message(ctx, "unreachable"))
        }
    }
}

fn arg<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> rquickjs::Result<Arg> {
    if let Some(number) = value.as_number() {
        return Ok(Arg::Number(number));
    }
    if let Some(flag) = value.as_bool() {
        return Ok(Arg::Flag(flag));
    }
    if let Some(big) = big(value) {
        return Ok(Arg::Big(big));
    }
    if let Some(object) = value.as_object()
        && let Ok(hex) = object.get::<_, String>("hex")
    {
        return Ok(Arg::Bytes(unhex(&hex)));
    }
    match value.as_string() {
        // A lone surrogate becomes what a text encoder makes of it.
        Some(string) => Ok(Arg::Text(match string.to_string() {
            Ok(text) => text,
            Err(_) => ctx
                .globals()
                .get::<_, Object<'_>>("String")?
                .get::<_, Object<'_>>("prototype")?
                .get::<_, Function<'_>>("toWellFormed")?
                .call((rquickjs::function::This(value.clone()),))?,
        })),
        None => Err(Exception::throw_type(ctx, "an argument that no hub takes")),
    }
}

fn orders<'js>(ctx: &Ctx<'js>, hub: &NativeHub, wake: f64) -> rquickjs::Result<Value<'js>> {
    let all = Array::new(ctx.clone())?;
    for (at, (method, args)) in hub.take_orders().into_iter().enumerate() {
        let order = Array::new(ctx.clone())?;
        order.set(0, method)?;
        for (at, arg) in args.into_iter().enumerate() {
            order.set(at + 1, given(ctx, arg)?)?;
        }
        all.set(at, order)?;
    }
    let both = Array::new(ctx.clone())?;
    both.set(0, wake)?;
    both.set(1, all)?;
    both.into_js(ctx)
}

fn given<'js>(ctx: &Ctx<'js>, arg: Arg) -> rquickjs::Result<Value<'js>> {
    match arg {
        Arg::Number(number) => number.into_js(ctx),
        Arg::Big(big) => BigInt::from_u64(ctx.clone(), big)?.into_js(ctx),
        Arg::Text(text) => text.into_js(ctx),
        Arg::Flag(flag) => flag.into_js(ctx),
        Arg::Bytes(bytes) => TypedArray::<u8>::new(ctx.clone(), bytes)?.into_js(ctx),
        Arg::Bigs(bigs) => TypedArray::<u64>::new(ctx.clone(), bigs)?.into_js(ctx),
        Arg::Numbers(numbers) => TypedArray::<f64>::new(ctx.clone(), numbers)?.into_js(ctx),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let bytes = text.as_bytes().chunks_exact(2);
    bytes.filter_map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

fn parse(what: &str, words: &Words<'_, '_>) -> Option<Op> {
    let (id, text) = (|| words.id(0), |at| words.text(at));
    Some(match what {
        "timer" => Op::Timer { id: id(), after: words.number(1) },
        "untimer" => Op::Untimer { id: id() },
        "post" => Op::Post { port: id(), data: text(1) },
        "early" => {
            let all = words.at(1)?.as_array()?.iter::<String>().collect::<Result<_, _>>();
            Op::Early { port: id(), data: all.ok()? }
        }
        "portClose" => Op::PortClose { port: id() },
        "sharedWorker" => {
            Op::SharedWorker { worker: id(), url: text(1), name: text(2), port: words.id(3) }
        }
        "worker" => Op::Worker { worker: id(), url: text(1), name: text(2) },
        "workerPost" => Op::WorkerPost { worker: id(), data: text(1) },
        "terminate" => Op::Terminate { worker: id() },
        "toOwner" => Op::ToOwner { data: text(0) },
        "closeSelf" => Op::CloseSelf,
        "channel" => Op::Channel { id: id(), name: text(1) },
        "broadcast" => Op::Broadcast { id: id(), data: text(1) },
        "channelClose" => Op::ChannelClose { id: id() },
        "lock" => Op::Lock {
            id: id(),
            name: text(1),
            shared: words.flag(2),
            if_available: words.flag(3),
            steal: words.flag(4),
        },
        "unlock" => Op::Unlock { id: id() },
        "dial" => Op::Dial { socket: id(), url: text(1), protocols: text(2) },
        "sendText" => Op::SendText { socket: id(), text: text(1) },
        "sendBytes" => Op::SendBytes { socket: id(), bytes: unhex(&text(1)) },
        "hangUp" => Op::HangUp {
            socket: id(),
            code: u16::try_from(words.id(1)).unwrap_or(0),
            reason: text(2),
        },
        "import" => Op::Import { id: id(), specifier: text(1) },
        "compile" => Op::Compile { id: id() },
        "log" => Op::Log { level: text(0), line: text(1) },
        "uncaught" => Op::Uncaught { text: text(0) },
        _ => return None,
    })
}

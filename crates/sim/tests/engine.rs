//! The engine: what scripts find in a realm, and what they do not.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at few of many kinds")]

use std::{cell::Cell, rc::Rc};

use tabmux_sim::{
    engine::{
        op::Op,
        realm::{Engine, Given, Host, Realm, Role},
    },
    rng::Rng,
};

fn realm(engine: &Engine, role: Role, seed: u64) -> Realm {
    let host = Host::new(Rng::new(seed), None, true, Rc::new(Cell::new(0)));
    engine.realm(role, "name", "https://sim/page", host).expect("there is memory")
}

/// What a page logs that runs this.
fn logged(script: &str) -> Vec<String> {
    let engine = Engine::new().expect("there is memory");
    lines(&realm(&engine, Role::Page, 7).run(script))
}

fn lines(ops: &[Op]) -> Vec<String> {
    let line = |op: &Op| match op {
        Op::Log { line, .. } => line.clone(),
        other => format!("{other:?}"),
    };
    ops.iter().map(line).collect()
}

#[test]
fn a_script_that_reads_the_clock_of_the_machine_fails() {
    for script in [
        "new Date()",
        "Date()",
        "performance.timeOrigin.toFixed()",
        "new WeakRef({})",
        "new FinalizationRegistry(() => 0)",
    ] {
        let engine = Engine::new().unwrap();
        let ops = realm(&engine, Role::Page, 7).run(script);
        assert!(matches!(ops[..], [Op::Uncaught { .. }]), "{script}: {ops:?}");
    }
}

#[test]
fn all_random_numbers_follow_from_the_seed() {
    let script = "const all = crypto.getRandomValues(new BigUint64Array(2));
        console.log(Math.random(), all[0], all[1], Date.now(), performance.now())";
    let engine = Engine::new().unwrap();
    let of = |seed| lines(&realm(&engine, Role::Page, seed).run(script));
    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
}

#[test]
fn the_clock_of_a_script_is_the_clock_of_the_world() {
    let engine = Engine::new().unwrap();
    let realm = realm(&engine, Role::Page, 7);
    realm.host.clock.set(1_500_000);
    assert_eq!(lines(&realm.run("console.log(performance.now())")), ["1500"]);
}

#[test]
fn promise_jobs_have_run_when_a_task_ends() {
    let script = "Promise.resolve().then(() => Promise.resolve()).then(() => console.log('done'))";
    assert_eq!(logged(script), ["done"]);
}

#[test]
fn a_promise_that_nobody_catches_is_reported() {
    let ops = logged("Promise.reject(new Error('lost')); Promise.reject(1).catch(() => 0)");
    assert!(ops.len() == 1 && ops[0].contains("lost"), "{ops:?}");
}

#[test]
fn a_message_is_cloned_in_the_realm_that_receives_it() {
    let engine = Engine::new().unwrap();
    let [from, to] = [realm(&engine, Role::Dedicated, 1), realm(&engine, Role::Dedicated, 2)];
    let ops = from.run(
        "postMessage([1n << 63n, undefined, { a: new Uint8Array([1, 255]) },
            '\\ud800', -1e-9, null])",
    );
    let [Op::ToOwner { data }] = &ops[..] else { panic!("{ops:?}") };
    to.run(
        "self.onmessage = ({ data: [big, none, { a }, lone, number, nothing] }) =>
            console.log(big === 1n << 63n, none === undefined, a instanceof Uint8Array && a[1],
                lone === '\\ud800', number === -1e-9, nothing === null)",
    );
    let ops = to.deliver("fromOwner", &[Given::Text(data.clone())]);
    assert_eq!(lines(&ops), ["true true 255 true true true"]);
}

#[test]
fn a_function_cannot_be_cloned() {
    let engine = Engine::new().unwrap();
    let script = "try { postMessage(() => 0) } catch (error) { console.log(error.name) }";
    assert_eq!(lines(&realm(&engine, Role::Dedicated, 1).run(script)), ["DataCloneError"]);
}

#[test]
fn a_lone_surrogate_is_sent_as_a_web_socket_sends_it() {
    let engine = Engine::new().unwrap();
    let realm = realm(&engine, Role::Shared, 1);
    realm.run("var link = new WebSocket('wss://sim/'); link.onopen = () => link.send('a\\ud800')");
    let opened = [Given::Number(1.0), Given::Text("opened".into()), Given::Text("".into())];
    let ops = realm.deliver("link", &opened);
    assert_eq!(ops, [Op::SendText { socket: 1, text: "a\u{fffd}".into() }]);
}

#[test]
fn a_script_that_never_ends_is_ended() {
    let ops = logged("for (;;);");
    assert!(ops[0].contains("interrupted"), "{ops:?}");
}

#[test]
fn a_lock_is_let_go_of_when_its_callback_settles() {
    let engine = Engine::new().unwrap();
    let realm = realm(&engine, Role::Page, 1);
    let ops = realm.run(
        "navigator.locks.request('a', () => new Promise((go) => (globalThis.go = go)))
            .then((it) => console.log('got', it))",
    );
    let lock =
        |shared| Op::Lock { id: 1, name: "a".into(), shared, if_available: false, steal: false };
    assert_eq!(ops, [lock(false)]);
    assert_eq!(realm.deliver("granted", &[Given::Number(1.0)]), []);
    let ops = realm.run("go(5)");
    assert_eq!(lines(&ops), ["Unlock { id: 1 }", "got 5"]);
}

#[test]
fn the_promise_of_a_stolen_lock_rejects() {
    let engine = Engine::new().unwrap();
    let realm = realm(&engine, Role::Page, 1);
    realm.run(
        "navigator.locks.request('a', () => new Promise(() => 0))
            .catch((error) => console.log(error.name))",
    );
    realm.deliver("granted", &[Given::Number(1.0)]);
    assert_eq!(lines(&realm.deliver("stolen", &[Given::Number(1.0)])), ["AbortError"]);
}

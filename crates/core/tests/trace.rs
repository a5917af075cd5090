//! Traces: what was written is read again, whatever it was.

use std::time::Duration;

use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use tabmux_core::{
    Timestamp,
    hub::{
        AskId, AttemptId, Hub, HubConfig, HubMessage, Input, Mode, Output, Rules, SubscriptionId,
        TabMessage,
    },
    trace::{Entry, Recorder, Trace},
};
use tabmux_wire::{HubId, Payload, Position, SocketId, TabId};

fn config() -> HubConfig {
    HubConfig::new(Mode::Mux, HubId(u64::MAX), "wss://server/tabmux/ws")
}

/// One input of each kind, with these numbers and texts.
fn inputs<'a>(a: u64, b: u64, small: u32, text: &'a str, bytes: &'a [u8]) -> Vec<Input<'a>> {
    let (tab, attempt, socket) = (TabId(a), AttemptId(small), SocketId(small));
    let subscription = SubscriptionId(small);
    let [code, ..] = [small as u16];
    let payloads = [Payload::Text(text), Payload::Binary(bytes)];
    let mut said = vec![
        TabMessage::Attach { claim: text, last0: a, last: b },
        TabMessage::Park,
        TabMessage::Bye,
        TabMessage::Reconnect,
        TabMessage::Whose,
        TabMessage::Logout,
        TabMessage::Renew,
        TabMessage::Open { n: b, socket, path: text, protocols: vec![] },
        TabMessage::Open { n: b, socket, path: text, protocols: vec!["one", text, "a,b"] },
        TabMessage::Close { n: b, socket, code, reason: text },
        TabMessage::Credit { n: b, socket, bytes: a },
        TabMessage::Subscribe { subscription, name: text, since: None },
        TabMessage::Subscribe {
            subscription,
            name: text,
            since: Some(Position { epoch: a, offset: b }),
        },
        TabMessage::Unsubscribe { subscription },
        TabMessage::Got { count0: a, count: b },
        TabMessage::Visible { online: true },
        TabMessage::Visible { online: false },
        TabMessage::Answer { id: AskId(small), answer: Ok(true) },
        TabMessage::Answer { id: AskId(small), answer: Ok(false) },
        TabMessage::Answer { id: AskId(small), answer: Err(text) },
    ];
    said.extend(payloads.map(|payload| TabMessage::Send { n: b, socket, payload }));
    let mut inputs: Vec<_> =
        said.into_iter().map(|message| Input::TabMessage { tab, message }).collect();
    let flag = a.is_multiple_of(2);
    inputs.extend([
        Input::TabLockGranted { tab },
        Input::LinkLockGranted,
        Input::TagTaken,
        Input::LinkOpened { attempt, protocol: text, extensions: "x" },
        Input::LinkClosed { attempt, code, reason: text, clean: flag, failed: !flag },
        Input::LinkBuffered { attempt, bytes: b },
        Input::NetworkChanged { online: b.is_multiple_of(2) },
        Input::Rules(Rules { replay_last: a, linger_ms: b, min_ms: 1, max_ms: 2, attempts: 3 }),
        Input::LinkMessageTo { attempt, name: "tab", text },
        Input::Reset,
    ]);
    inputs.extend(payloads.map(|payload| Input::LinkMessage { attempt, payload }));
    inputs
}

fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![0..200_u64, any::<u64>()]
}

proptest! {
    #[test]
    fn every_input_is_read_as_it_was_written(
        (a, b) in (numbers(), numbers()),
        (now, small) in (numbers(), any::<u32>()),
        // A query is not written as it was.
        text in "[^?]{0,40}",
        bytes in any::<Vec<u8>>(),
    ) {
        let now = Timestamp::from_micros(now);
        let inputs = inputs(a, b, small, &text, &bytes);
        let (mut recorder, mut trace) = Recorder::new(&config(), a);
        for input in &inputs {
            trace.extend_from_slice(recorder.input(now, input));
        }
        trace.extend_from_slice(recorder.timeout(now));
        let wanted: Vec<_> = inputs.into_iter().map(|input| Ok(Entry::Input(now, input)))
            .chain([Ok(Entry::Timeout(now))]).collect();
        let read = Trace::new(&trace)?;
        prop_assert_eq!(read.seed, a);
        prop_assert_eq!(read.collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn what_is_cut_or_foreign_is_refused_and_never_panics(
        cut in 0..400_usize,
        (at, byte) in (0..400_usize, any::<u8>()),
    ) {
        let (mut recorder, mut trace) = Recorder::new(&config(), 1);
        for input in &inputs(1, 2, 3, "text", b"bytes") {
            trace.extend_from_slice(recorder.input(Timestamp::default(), input));
        }
        if let Some(place) = trace.get_mut(at) {
            *place = byte;
        }
        trace.truncate(cut);
        if let Ok(read) = Trace::new(&trace) {
            let entries: Vec<_> = read.collect();
            let errors = entries.iter().filter(|entry| entry.is_err()).count();
            prop_assert!(errors <= 1);
            prop_assert!(errors == 0 || entries.last().is_some_and(Result::is_err));
        }
    }
}

#[test]
fn the_configuration_is_in_the_head() {
    let mut config = HubConfig::new(Mode::Mirror, HubId(7), "ws://x");
    config.dial_timeout = Duration::from_micros(1_000_001);
    config.check_timeout = Duration::from_millis(7);
    (config.ack_frames, config.ack_bytes, config.outbox_bytes) = (1, 2, 3);
    let (_, head) = Recorder::new(&config, u64::MAX);
    let read = Trace::new(&head).unwrap();
    assert_eq!(format!("{:?}", read.config), format!("{config:?}"));
    assert_eq!(read.seed, u64::MAX);
    let (_, head) = Recorder::new(&self::config(), 0);
    let read = Trace::new(&head).unwrap();
    assert_eq!(format!("{:?}", read.config), format!("{:?}", self::config()));
}

#[test]
fn another_version_is_refused() {
    let (_, mut head) = Recorder::new(&config(), 1);
    head[12] += 1;
    assert!(Trace::new(&head).unwrap_err().to_string().contains("version of the trace"));
    assert!(Trace::new(b"tabmux").is_err());
}

fn digest(outputs: &[Output], wake: Option<u64>) -> Vec<u8> {
    let (mut recorder, _) = Recorder::new(&config(), 1);
    outputs.iter().for_each(|output| recorder.output(output));
    recorder.drained(wake.map(Timestamp::from_millis)).to_vec()
}

#[test]
fn the_digest_is_of_all_orders_in_their_order_and_of_the_wake() {
    let post = |n| Output::PostToTab { tab: TabId(1), message: HubMessage::Seen { n } };
    let same = digest(&[post(1), post(2)], Some(5));
    assert_eq!(digest(&[post(1), post(2)], Some(5)), same);
    for other in [
        digest(&[post(2), post(1)], Some(5)),
        digest(&[post(1)], Some(5)),
        digest(&[post(1), post(3)], Some(5)),
        digest(&[post(1), post(2)], Some(6)),
        digest(&[post(1), post(2)], None),
        digest(&[post(1), post(2), Output::RequestLinkLock], Some(5)),
    ] {
        assert_ne!(other, same);
    }
}

#[test]
fn the_same_trace_gives_the_same_orders() {
    let attach = TabMessage::Attach { claim: "", last0: 0, last: 0 };
    let told = [
        Input::TabMessage { tab: TabId(1), message: attach },
        Input::LinkLockGranted,
        Input::LinkClosed {
            attempt: AttemptId(1),
            code: 1006,
            reason: "",
            clean: false,
            failed: false,
        },
    ];
    let run = |seed| {
        let mut hub = Hub::new(config(), seed);
        let (mut recorder, mut trace) = Recorder::new(&config(), seed);
        for input in &told {
            trace.extend_from_slice(recorder.input(Timestamp::default(), input));
            hub.handle_input(Timestamp::default(), input.clone());
            while let Some(output) = hub.poll_output() {
                recorder.output(&output);
            }
            trace.extend_from_slice(recorder.drained(hub.poll_timeout().map(|(at, _)| at)));
        }
        trace
    };
    assert_eq!(run(1), run(1));
    let (one, two) = (run(1), run(2));
    let drained = |trace| Trace::new(trace).unwrap().last();
    assert_ne!(drained(&one), drained(&two), "the wait for the next dial is drawn");
}

//! A recording is replayed, and a difference is found.

use std::collections::BTreeSet;

use tabmux_core::{
    OwnedPayload,
    hub::{HubMessage, Output},
    trace::Entry,
};
use tabmux_trace::{
    record::record,
    replay::{Line, ReplayError, replay},
};
use tabmux_wire::HubFrame;

const STEPS: u64 = 2500;

#[test]
fn a_recording_replays_to_the_same_orders() {
    for seed in 0..6 {
        let replayed = replay(&record(seed, STEPS), |_| {}).unwrap();
        assert!(replayed.compared == STEPS, "{replayed:?}");
        assert!(replayed.ordered > STEPS / 4, "{replayed:?}");
    }
}

#[test]
fn a_recording_holds_every_kind_of_input_and_most_orders() {
    let (mut told, mut ordered) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..6 {
        replay(&record(seed, STEPS), |line| match line {
            Line::Told(Entry::Input(_, input)) => {
                let text = format!("{input:?}");
                let name = text.split("message: ").nth(1).unwrap_or(&text);
                told.insert(name.split([' ', '{']).next().unwrap_or_default().to_owned());
            }
            Line::Told(_) => {}
            Line::Ordered(Output::PostToTab { message, .. })
            | Line::Ordered(Output::PostToTabs { message, .. }) => {
                ordered.insert(name(message));
            }
            Line::Ordered(_) => {}
        })
        .unwrap();
    }
    assert_eq!(told.len(), 24, "{told:?}");
    // `Refused` takes a thousand tabs, and another message takes a minute without a server. All
    // others are here.
    assert!(ordered.len() >= 18, "{ordered:?}");
}

fn name(message: &HubMessage) -> String {
    let text = format!("{message:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

#[test]
fn a_digest_that_differs_is_found_where_it_is() {
    let mut trace = record(2, 50);
    let length = trace.len();
    trace[length - 1] ^= 1;
    let ReplayError::Differs(entry) = replay(&trace, |_| {}).unwrap_err() else {
        panic!("another error");
    };
    let mut entries = 0;
    let whole = record(2, 50);
    replay(&whole, |line| entries += u64::from(matches!(line, Line::Told(_)))).unwrap();
    assert_eq!(entry, entries + 50, "the last entry, of which 50 are digests");
}

#[test]
fn a_trace_holds_no_query_of_a_socket_and_is_replayed_without() {
    let trace = record(2, STEPS);
    let holds = |text: &[u8]| trace.windows(text.len()).any(|part| part == text);
    assert!(holds(b"/path?xxxxxx") && !holds(b"s3cret"));
    let mut opened = 0;
    replay(&trace, |line| {
        if let Line::Ordered(Output::SendLink { payload: OwnedPayload::Binary(frame), .. }) = line {
            let frame = HubFrame::decode(frame);
            opened += u32::from(matches!(frame, Ok(HubFrame::Open { path: "/path?xxxxxx", .. })));
        }
    })
    .unwrap();
    assert!(opened > 0);
}

#[test]
fn bytes_that_are_no_trace_are_refused() {
    let error = replay(b"GET / HTTP/1.1", |_| {}).unwrap_err();
    assert!(error.to_string().contains("beginning of the trace"), "{error}");
    let mut cut = record(2, 50);
    cut.pop();
    assert!(matches!(replay(&cut, |_| {}), Err(ReplayError::Bad(..))));
}

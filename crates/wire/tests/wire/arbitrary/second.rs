//! The frames that version 2 added.

use proptest::{collection::vec, option, prelude::*, sample::select};
use tabmux_wire::{
    Audience, CaughtUp, Denied, Dismissed, Feature, HubFrame, IdentityTag, Member, Presence,
    Present, Publish, Recover, Recovered, RefusedReason, Rejected, Reply, Request, ServerFrame,
    Standing, TabId, Term, TopicId, Upstream, WelcomeTail,
};

use super::{alias, number, ordinal, payload, position, socket, text};

pub(super) fn hub_frame() -> impl Strategy<Value = HubFrame<'static>> {
    let up = || (alias(), ordinal()).prop_map(|(tab, n)| Upstream { tab, n });
    let present = prop_oneof![
        Just(Present::Away),
        (any::<bool>(), text(0..=64)).prop_map(|(idle, metadata)| Present::Here { idle, metadata }),
    ];
    let request = (up(), socket(), number(), (text(1..=16), text(0..=16)), payload());
    let publish = (up(), socket(), text(1..=64), text(0..=16), payload());
    prop_oneof![
        (ordinal(), text(0..=64))
            .prop_map(|(request, credentials)| HubFrame::Credentials { request, credentials }),
        (text(1..=64), present).prop_map(|(topic, present)| HubFrame::Presence { topic, present }),
        Just(HubFrame::End),
        request.prop_map(|(up, socket, credit, (method, key), payload)| {
            HubFrame::Request(Request { up, socket, credit, method, key, payload })
        }),
        (up(), socket()).prop_map(|(up, socket)| HubFrame::Cancel { up, socket }),
        publish.prop_map(|(up, socket, topic, key, payload)| {
            HubFrame::Publish(Publish { up, socket, topic, key, payload })
        }),
        (up(), socket(), position(), text(1..=64)).prop_map(|(up, socket, since, topic)| {
            HubFrame::Recover(Recover { up, socket, since, topic })
        }),
    ]
}

pub(super) fn server_frame() -> impl Strategy<Value = ServerFrame<'static>> {
    prop_oneof![control(), answers(), lane0()]
}

fn control() -> impl Strategy<Value = ServerFrame<'static>> {
    let retry = || option::of(number());
    let denied = (select(RefusedReason::ALL), number(), retry(), text(0..=64), text(0..=64));
    let standing = (number(), any::<bool>(), retry(), text(0..=64));
    prop_oneof![
        denied.prop_map(|(code, term, retry_ms, target, message)| {
            ServerFrame::Denied(Denied { code, term: Term(term), retry_ms, target, message })
        }),
        standing.prop_map(|(request, accepted, expires_ms, message)| {
            ServerFrame::Credentials(Standing { request, accepted, expires_ms, message })
        }),
        (any::<u64>(), retry(), text(0..=64)).prop_map(|(tab, retry_ms, message)| {
            ServerFrame::Dismissed(Dismissed { tab: TabId(tab), retry_ms, message })
        }),
        number().prop_map(|bytes| ServerFrame::Coming { bytes }),
        (text(1..=64), text(0..=64))
            .prop_map(|(ticket, path)| ServerFrame::Ticket { ticket, path }),
    ]
}

fn answers() -> impl Strategy<Value = ServerFrame<'static>> {
    let rejected = (alias(), socket(), any::<u16>(), option::of(number()), text(0..=64));
    let recovered = (alias(), socket(), position(), number(), payload());
    let caught_up = (alias(), socket(), option::of(position()), position());
    prop_oneof![
        rejected.prop_map(|(tab, socket, code, retry_ms, message)| {
            ServerFrame::Rejected(Rejected { tab, socket, code, retry_ms, message })
        }),
        (alias(), socket(), any::<bool>(), payload()).prop_map(|(tab, socket, last, payload)| {
            ServerFrame::Reply(Reply { tab, socket, last, payload })
        }),
        (alias(), socket(), option::of(position())).prop_map(|(tab, socket, position)| {
            ServerFrame::Published { tab, socket, position }
        }),
        recovered.prop_map(|(tab, socket, position, previous, payload)| {
            ServerFrame::Recovered(Recovered { tab, socket, position, previous, payload })
        }),
        caught_up.prop_map(|(tab, socket, missing, position)| {
            ServerFrame::CaughtUp(CaughtUp { tab, socket, missing, position })
        }),
    ]
}

fn lane0() -> impl Strategy<Value = ServerFrame<'static>> {
    let member = (text(1..=16), any::<[u32; 2]>(), any::<bool>(), text(0..=16));
    let member = member.prop_map(|(user, [browsers, tabs], idle, metadata)| Member {
        user,
        browsers,
        tabs,
        idle,
        metadata,
    });
    let lists = (vec(member, 0..4), vec(text(1..=16), 0..4));
    let presence = (ordinal().prop_map(TopicId), any::<bool>(), number(), lists);
    let audience = prop_oneof![
        Just((0, Audience::User)),
        Just((0, Audience::Browser)),
        alias().prop_map(|tab| (tab.0, Audience::Tab)),
        any::<u32>().prop_map(|lane| (lane, Audience::Other(9))),
    ];
    prop_oneof![
        presence.prop_map(|(topic, whole, count, (members, left))| {
            ServerFrame::Presence(Presence { topic, whole, count, members, left })
        }),
        (audience, payload()).prop_map(|((lane, audience), payload)| {
            ServerFrame::Direct { lane, audience, payload }
        }),
    ]
}

pub(super) fn welcome_tail() -> impl Strategy<Value = WelcomeTail> {
    let identity = prop_oneof![
        Just(IdentityTag::NoUsers),
        Just(IdentityTag::Nobody),
        text(1..=64).prop_map(|tag| IdentityTag::User(tag.into())),
    ];
    let features = proptest::sample::subsequence(Feature::ALL, 0..=Feature::ALL.len());
    (identity, features).prop_map(|(identity, features)| WelcomeTail { identity, features })
}

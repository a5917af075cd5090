//! Numbers for operators. One table gives the structs, their sum, and all that is told of each
//! number outside.

use super::tab::Presence;

/// One number of [`Stats`], as writers of reports need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Number {
    /// The name of the number in a flat list, such as `/tabmux/stats`.
    pub key: &'static str,
    /// The number itself.
    pub value: u64,
    /// Whether the number grows, or goes up and down.
    pub kind: NumberKind,
    /// The name of the metric. Numbers of one metric follow one another.
    pub metric: &'static str,
    /// What the metric tells.
    pub help: &'static str,
    /// The label that tells the number from the others of its metric: its name and its value.
    pub label: Option<(&'static str, &'static str)>,
    /// The value of the metric. It is the number without what another label of the metric tells.
    pub sample: u64,
}

/// How a number moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberKind {
    /// The number only grows.
    Counter,
    /// The number goes up and down.
    Gauge,
}

macro_rules! of_kind {
    (gauge) => {
        usize
    };
    (counter) => {
        u64
    };
    (gauge $value:expr) => {
        0
    };
    (counter $value:expr) => {
        $value
    };
    (gauge as kind) => {
        NumberKind::Gauge
    };
    (counter as kind) => {
        NumberKind::Counter
    };
}

/// Defines `Stats` and its groups. In a group each block is a metric: its kind, its name and its
/// help. A row is a number: `field as "key": label "value" - part`. The key is the name of the
/// field if the row has none. `part` is another number of the metric, which `field` holds as well.
macro_rules! stats {
    ($(
        $(#[$about:meta])+
        $group:ident: $Group:ident {$(
            $kind:ident $metric:literal $help:literal {$(
                $(#[$note:meta])*
                $field:ident $(as $key:literal)? $(: $label:ident $is:literal $(- $part:ident)?)?;
            )+}
        )+}
    )+) => {
        /// What a registry holds now, and what it has counted since it began.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {$(
            $(#[$about])+
            pub $group: $Group,
        )+}

        impl Stats {
            /// Returns what was counted, of a registry that is no more: nothing of what it held is
            /// left.
            #[must_use]
            pub const fn without_population(self) -> Self {
                Self { $($group: self.$group.without_population(),)+ }
            }

            /// Returns the numbers of two registries together.
            #[must_use]
            pub const fn plus(self, other: Self) -> Self {
                Self { $($group: self.$group.plus(other.$group),)+ }
            }

            /// Returns every number, with all that is told of it.
            pub fn numbers(&self) -> impl Iterator<Item = Number> + use<> {
                std::iter::empty()$(.chain(self.$group.numbers()))+
            }
        }

        $(
            $(#[$about])+
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
            #[non_exhaustive]
            pub struct $Group {$($(
                #[doc = $help]
                ///
                $(#[$note])*
                #[doc = concat!("Metric: `", $metric, "`.")]
                pub $field: of_kind!($kind),
            )+)+}

            impl $Group {
                const fn without_population(self) -> Self {
                    Self { $($($field: of_kind!($kind self.$field),)+)+ }
                }

                const fn plus(self, other: Self) -> Self {
                    Self { $($($field: self.$field + other.$field,)+)+ }
                }

                fn numbers(&self) -> impl Iterator<Item = Number> + use<> {
                    [$($(Number {
                        key: [$($key,)? stringify!($field)][0],
                        value: self.$field as u64,
                        kind: of_kind!($kind as kind),
                        metric: $metric,
                        help: $help,
                        label: [$(Some((stringify!($label), $is)),)? None][0],
                        sample: self.$field as u64 $($(- self.$part as u64)?)?,
                    },)+)+].into_iter()
                }
            }
        )+
    };
}

stats! {
    /// Links of browsers.
    links: LinkStats {
        gauge "tabmux_links" "Links, those before HELLO included." {
            open as "links";
        }
        counter "tabmux_links_closed_total" "Links that the server closed, by reason." {
            /// These links did not say HELLO in time.
            expired as "credentials_expired": reason "expired";
            handshake_timeouts: reason "handshake_timeout";
            /// These links were silent.
            heartbeat_timeouts: reason "heartbeat_timeout";
            /// These links did not read.
            not_reading: reason "not_reading";
            /// The hubs of these links broke the protocol.
            protocol_errors: reason "protocol_error";
        }
        counter "tabmux_credentials_total"
            "Credentials that hubs showed to renew those of their link, by result." {
            renewed as "credentials_renewed": result "accepted";
            not_renewed as "credentials_refused": result "refused";
        }
        counter "tabmux_hellos_refused_total" "HELLO that was refused: another version, draining." {
            /// Links beyond the limit of the registry are counted here as well.
            refused;
        }
    }

    /// Sessions of browsers, which outlive their links.
    sessions: SessionStats {
        gauge "tabmux_sessions" "Sessions." {
            held as "sessions";
        }
        gauge "tabmux_sessions_detached"
            "Sessions that have lost their link and wait for another one." {
            detached;
        }
        counter "tabmux_sessions_resumed_total"
            "Sessions that went on with another link, of the same hub or of another." {
            /// The number holds takeovers. The metric tells them by another label.
            resumed: reason "reconnect" - takeovers;
            /// Another hub took these sessions over.
            takeovers: reason "takeover";
        }
        counter "tabmux_sessions_ended_total"
            "Sessions that ended: nobody came in time for one without a link, or limits." {
            /// No hub came for these sessions in time.
            expired: reason "expired";
            /// These sessions were given up for their number, or for what they held.
            evicted: reason "evicted";
        }
        counter "tabmux_claims_refused_total"
            "Claims of a session that were refused: an old term, another token or user." {
            /// Another hub has these sessions.
            stale: reason "stale";
            /// The token was not that of the session.
            forged: reason "forged";
            /// Somebody else began the session.
            foreign: reason "foreign";
        }
    }

    /// Tabs of sessions.
    tabs: TabStats {
        gauge "tabmux_tabs" "Tabs that are there." {
            attached as "tabs";
        }
        gauge "tabmux_tabs_awaited"
            "Tabs whose session has lost its link, and that have not attached since." {
            awaited;
        }
        gauge "tabmux_tabs_parked" "Tabs in the back/forward cache." {
            parked;
        }
        counter "tabmux_tabs_refused_total" "Tabs refused for limits.tabs." {
            refused as "tabs_refused";
        }
        counter "tabmux_tabs_set_aside_total" "Tabs without which lane 0 was acknowledged." {
            set_aside;
        }
        counter "tabmux_tabs_stalled_total"
            "Tabs forgotten because they left a full lane as it was for a minute." {
            stalled;
        }
    }

    /// Virtual sockets of tabs.
    sockets: SocketStats {
        gauge "tabmux_sockets" "Virtual sockets." {
            /// Sockets that are not yet accepted are counted here as well.
            open as "sockets";
        }
        gauge "tabmux_sockets_awaiting_credit"
            "Virtual sockets and requests with more to send than their page gave credit for." {
            /// Sockets that were told that there is more are not counted.
            awaiting_credit;
        }
        counter "tabmux_sockets_refused_total" "Virtual sockets refused for limits.sockets." {
            refused as "sockets_refused";
        }
        counter "tabmux_sockets_over_credit_total"
            "Virtual sockets closed because their page sent without credit." {
            over_credit;
        }
        counter "tabmux_bad_opens_total"
            "OPEN and REQUEST of numbers that are in use, which are ignored." {
            bad_opens;
        }
    }

    /// Questions to the shell.
    asks: AskStats {
        gauge "tabmux_asks" "Questions of browsers that wait for an answer of the application." {
            open as "asks";
        }
        counter "tabmux_asks_refused_total"
            "Questions that were not asked: too many, or too long, of one browser were open." {
            refused as "asks_refused";
        }
        counter "tabmux_asks_overdue_total" "Questions that nobody answered in time." {
            overdue as "asks_overdue";
        }
    }

    /// Messages of virtual sockets.
    messages: MessageStats {
        counter "tabmux_messages_in_total" "Messages of virtual sockets that came." {
            received as "messages_in";
        }
        counter "tabmux_messages_out_total" "Messages of virtual sockets that were sent." {
            /// A message to all tabs counts once for each link.
            sent as "messages_out";
        }
        counter "tabmux_messages_refused_total" "Messages that were not sent, by reason." {
            /// The queue of the link was full.
            queue_full: reason "queue_full";
            /// Too much was kept for tabs that are parked or not attached.
            absent_full: reason "absent_full";
            /// Memory was short, and the session, or its account, held the most.
            no_memory: reason "memory";
            /// The tab of the socket had given no more credit.
            no_credit: reason "no_credit";
            /// The messages were too large.
            too_large: reason "too_large";
        }
    }

    /// Topics, subscriptions and publications.
    topics: TopicStats {
        gauge "tabmux_topics"
            "Topics that a browser is subscribed to; each shard counts its own." {
            subscribed as "topics";
        }
        gauge "tabmux_subscriptions" "Subscriptions of browsers to topics." {
            subscriptions;
        }
        counter "tabmux_subscriptions_refused_total"
            "Subscriptions refused: by a limit, for the topic's name, or by its rule." {
            /// Those that are counted in the next metric are counted here as well.
            subscriptions_refused;
        }
        counter "tabmux_account_subscriptions_refused_total"
            "Subscriptions refused because a user or an address had too many." {
            account_full;
        }
        counter "tabmux_subscriptions_revoked_total"
            "Subscriptions ended because their browser may not have the topic any more." {
            rights_lost as "subscriptions_revoked";
        }
        counter "tabmux_slow_subscriptions_total"
            "Subscriptions ended because their hub did not read fast enough." {
            slow_subscriptions;
        }
        counter "tabmux_publications_total"
            "Publications, counted by each shard where a browser wants them." {
            publications;
        }
        counter "tabmux_deliveries_total" "Publications sent, one for each link." {
            deliveries;
        }
        counter "tabmux_publications_dropped_total"
            "Publications dropped for hubs that did not read fast enough, by policy." {
            /// A later publication replaced these.
            dropped_replaced: reason "keep_latest";
            /// The subscription ended with these.
            dropped_recover: reason "recover";
            /// The hub was told of the gap.
            dropped_gap: reason "drop";
        }
        gauge "tabmux_recoveries" "Subscriptions whose browser gets what it missed." {
            recovering as "recoveries";
        }
        counter "tabmux_publications_recovered_total"
            "Publications sent to browsers that had missed them, one for each link." {
            recovered as "publications_recovered";
        }
        counter "tabmux_recovery_gaps_total"
            "Times that a browser which asked for what it missed was told of a gap." {
            recovery_gaps;
        }
    }

    /// Memory that hubs take.
    memory: MemoryStats {
        gauge "tabmux_queued_bytes" "Bytes that wait for hubs to read." {
            queued_bytes;
        }
        gauge "tabmux_kept_bytes" "Bytes that are kept for hubs until they acknowledge them." {
            kept_bytes;
        }
    }

    /// Memory that browsers make the server keep, as the allocator counts it.
    charged: ChargeStats {
        gauge "tabmux_charged_bytes"
            "Memory that browsers make the server keep, without the publications that they share." {
            /// Links, sessions and tabs.
            sessions as "charged_sessions": kind "sessions";
            /// Users and headers of links and sessions.
            visitors as "charged_visitors": kind "visitors";
            /// Frames that hubs have not acknowledged.
            lanes as "charged_lanes": kind "lanes";
            /// Entries of what waits for hubs that do not read.
            waiting as "charged_waiting": kind "waiting";
            /// Virtual sockets and their paths.
            sockets as "charged_sockets": kind "sockets";
            /// Messages that handlers hold.
            credit as "charged_credit": kind "credit";
            /// Questions that wait for an answer.
            asks as "charged_asks": kind "asks";
            /// Topics and subscriptions.
            topics as "charged_topics": kind "topics";
            /// Parts of messages, and messages that are not yet written.
            links as "charged_links": kind "links";
        }
    }
}

impl TabStats {
    /// Returns the number that counts tabs of a presence.
    pub(super) const fn of(&mut self, presence: Presence) -> &mut usize {
        match presence {
            Presence::Attached => &mut self.attached,
            Presence::Awaited => &mut self.awaited,
            Presence::Parked => &mut self.parked,
        }
    }
}

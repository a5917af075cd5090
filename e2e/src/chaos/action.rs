//! The actions of a run: what can happen, how often, and what an engine's driver cannot do.

use std::fmt;

use crate::{chaos::draw::Draw, engine::Engine};

/// One thing that happens in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A new tab is opened.
    OpenTab,
    /// A tab is closed.
    CloseTab,
    /// A tab's process is killed.
    CrashTab,
    /// A tab goes to another page, into the back/forward cache where there is one.
    Leave,
    /// A tab comes back from the other page.
    Back,
    /// A tab is loaded again.
    Reload,
    /// A tab is frozen.
    Freeze,
    /// A frozen tab goes on.
    Thaw,
    /// A page opens one more virtual socket.
    OpenSocket,
    /// A page closes one of its virtual sockets.
    CloseSocket,
    /// A page sends many messages at once.
    Burst,
    /// The process that runs the hub is killed, and with it any tab that lives there.
    CrashWorker,
    /// The hub's worker ends, and no tab with it.
    EndWorker,
    /// The link of the tabs breaks.
    Cut,
    /// Nothing passes for a while. Then everything passes at once.
    Stall,
    /// Bytes are lost for a while, and neither end is told. Then the link breaks.
    HalfOpen,
    /// The link breaks, and new connections are refused for a while.
    Refuse,
    /// The server is killed and started again.
    KillServer,
    /// The server is asked to end, and started again.
    DrainServer,
}

use Action::{
    Back, Burst, CloseSocket, CloseTab, CrashTab, CrashWorker, Cut, DrainServer, EndWorker, Freeze,
    HalfOpen, KillServer, Leave, OpenSocket, OpenTab, Refuse, Reload, Stall, Thaw,
};

/// Every action and how often it is drawn, compared with the others.
const WEIGHTS: &[(Action, u64)] = &[
    (OpenTab, 10),
    (CloseTab, 5),
    (CrashTab, 5),
    (Leave, 4),
    (Back, 6),
    (Reload, 4),
    (Freeze, 4),
    (Thaw, 5),
    (OpenSocket, 10),
    (CloseSocket, 4),
    (Burst, 12),
    (CrashWorker, 6),
    (EndWorker, 6),
    (Cut, 10),
    (Stall, 5),
    (HalfOpen, 4),
    (Refuse, 5),
    (KillServer, 3),
    (DrainServer, 2),
];

impl Action {
    /// Draws one of the actions that `engine` can do and that `only` names, if it names any.
    pub(super) fn draw(draw: &mut Draw, engine: Engine, only: &[String]) -> Self {
        let choice: Vec<_> = WEIGHTS
            .iter()
            .filter(|(action, _)| action.obstacle(engine).is_none())
            .map(|(action, weight)| match only {
                [] => (*action, *weight),
                only if only.contains(&action.to_string()) => (*action, 20),
                _ if action.is_needed() => (*action, 5),
                _ => (*action, 0),
            })
            .collect();
        let mut at = draw.below(choice.iter().map(|(_, weight)| weight).sum());
        for (action, weight) in choice {
            if at < weight {
                return action;
            }
            at -= weight;
        }
        Burst
    }

    /// Returns all actions that exist.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        WEIGHTS.iter().map(|(action, _)| *action)
    }

    /// Returns true for actions without which there is nothing to break, or no end of it.
    const fn is_needed(self) -> bool {
        matches!(self, OpenTab | OpenSocket | Burst | Back | Thaw)
    }

    /// Returns true if the action breaks something. A run that broke nothing proves nothing.
    pub(super) const fn breaks(self) -> bool {
        !matches!(self, OpenTab | OpenSocket | CloseSocket | Burst | Back | Thaw)
    }

    /// Returns true if a tab that lives on may miss publications and be told of a gap, because the
    /// tab or the server was away.
    pub(super) const fn may_cost_publications(self) -> bool {
        matches!(self, Leave | Back | Reload | Freeze | Thaw | KillServer | DrainServer)
    }

    /// Returns the reason why the driver of `engine` cannot do the action, if it cannot.
    pub(super) const fn obstacle(self, engine: Engine) -> Option<&'static str> {
        match (self, engine) {
            (Freeze | Thaw, Engine::Firefox | Engine::WebKit) => {
                Some("no command of this engine freezes a tab")
            }
            (EndWorker, Engine::Firefox | Engine::WebKit) => {
                Some("no command of this engine ends a worker and no tab")
            }
            _ => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            OpenTab => "open-tab",
            CloseTab => "close-tab",
            CrashTab => "crash-tab",
            Leave => "leave",
            Back => "back",
            Reload => "reload",
            Freeze => "freeze",
            Thaw => "thaw",
            OpenSocket => "open-socket",
            CloseSocket => "close-socket",
            Burst => "burst",
            CrashWorker => "crash-worker",
            EndWorker => "end-worker",
            Cut => "cut",
            Stall => "stall",
            HalfOpen => "half-open",
            Refuse => "refuse",
            KillServer => "kill-server",
            DrainServer => "drain-server",
        })
    }
}

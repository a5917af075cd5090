//! Strangers who claim sessions of others.

use std::num::NonZeroU64;

use tabmux_core::{
    session::{Input, LinkId},
    wire::{Hello, HubFrame, HubId, NEWEST_VERSION, OLDEST_VERSION, Resume, Token},
};

use super::{browser::Identity, world::World};
use crate::{invariant::Checked, rng::Rng, seen::Sight};

impl World {
    /// Lets a stranger claim a session, with another token or as another user.
    pub(crate) fn forge(&mut self, rng: &mut Rng) -> Checked {
        let lives = |it: &&(Resume, usize)| {
            self.server.as_ref().is_some_and(|server| server.has(it.0.session))
        };
        let all = self.resumes.values().filter(lives).copied().collect::<Vec<_>>();
        let Some((mut resume, browser)) = rng.pick(&all) else {
            return Ok(());
        };
        let mut identity = self.owners.get(&resume.session).copied().flatten();
        let is_token = rng.one_in(2);
        if is_token {
            resume.token = Token(resume.token.0.map(|byte| byte ^ 1));
            if let Some(server) = &mut self.server {
                server.forged += 1;
            }
        } else {
            identity = NonZeroU64::new(browser as u64 * 1000 + 500).map(Identity);
        }
        let link = LinkId(self.network.next());
        let entropy = std::array::from_fn(|_| rng.next().to_le_bytes()[0]);
        let (mut bytes, hub) = (Vec::new(), HubId(rng.next()));
        let hello = Hello {
            min_version: OLDEST_VERSION,
            // A session is closed to hubs that do not speak its version.
            max_version: NEWEST_VERSION,
            hub,
            resume: Some(resume),
            credentials: "",
        };
        HubFrame::Hello(hello).encode(&mut bytes);
        let visitor = identity.map(Identity::visitor);
        self.server_input(Input::LinkOpened { link, entropy, visitor })?;
        let refused = |world: &Self| {
            let server = world.server.as_ref();
            server.map_or(0, |it| {
                let sessions = it.registry.stats().sessions;
                if is_token { sessions.forged } else { sessions.foreign }
            })
        };
        let before = refused(self);
        self.server_input(Input::LinkMessage { link, bytes: &bytes })?;
        if refused(self) > before {
            self.seen.add(if is_token { Sight::ForgedToken } else { Sight::ForgedUser });
        }
        self.server_input(Input::LinkClosed { link })
    }
}

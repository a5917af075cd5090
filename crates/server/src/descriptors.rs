//! File descriptors: each link is one, so their limit is a limit of links.

use tracing::{info, warn};

use crate::{Config, admission::Quota, config::Limits};

/// What the process holds besides connections: standard streams, listeners, the runtime's epoll,
/// files being read; and for each shard its epoll and its waker.
const OWN: usize = 32;
const EACH_SHARD: usize = 2;

/// Raises the process's soft limit of open files to the hard one, which is what a server needs
/// and a shell does not give. The binary does it; an app of yours may. `None` where the system
/// does not tell such a limit.
pub fn raise_descriptor_limit() -> Option<u64> {
    rlimit::increase_nofile_limit(u64::MAX).ok().or_else(limit)
}

/// Open files that the process may have.
pub(crate) fn limit() -> Option<u64> {
    #[cfg(unix)]
    {
        Some(rlimit::getrlimit(rlimit::Resource::NOFILE).ok()?.0)
    }
    #[cfg(not(unix))]
    {
        None
    }
}

/// What the door may let in, within the limit of open files. With routes, upstream connections have
/// a share of them.
pub(crate) fn quota(config: &Config, shards: usize) -> Quota {
    let wanted = Quota::new(&config.limits);
    let Some(files) = limit() else {
        return wanted;
    };
    let quota = wanted.within(files, OWN + EACH_SHARD * shards);
    let quota = if config.route.is_empty() { quota } else { quota.beside_upstreams() };
    let Quota { links, .. } = quota;
    if links == wanted.links {
        info!("at most {links} links; the limit of open files is {files}");
    } else if wanted.links == Limits::default().links {
        // Nobody asked for more.
        info!("at most {links} links, for the limit of open files is {files} (ulimit -n)");
    } else {
        warn!(
            "at most {links} links instead of limits.links = {}, for the limit of open files is \
             {files}; raise it (ulimit -n, LimitNOFILE=), or lower limits.links",
            wanted.links
        );
    }
    quota
}

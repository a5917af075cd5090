//! How many upstreams there may be.

use tabmux_server::{Admitted, Builder, Config, Limits};

use super::world::{Backend, TAB, opened, rejected, tab};
use crate::support::metric;

async fn reason(server: &crate::support::Running, reason: &str) -> f64 {
    metric(server.address, &format!("tabmux_gateway_refused_total{{reason=\"{reason}\"}}")).await
}

#[tokio::test]
async fn a_browser_has_so_many_upstreams_and_gets_another_when_one_goes() {
    let backend = Backend::start().await;
    let config = Config::default().limits(Limits::default().upstream_per_browser(2));
    let server = backend.behind_server(|it: Builder| it.config(config), |it| it).await;
    let mut hub = tab(&server).await;
    let mut conns = Vec::new();
    for socket in [1, 2] {
        hub.ask(TAB, socket, "/chat/", &[]).await;
        conns.push(backend.conn().await);
        opened(&mut hub).await;
    }
    hub.ask(TAB, 3, "/chat/", &[]).await;
    assert!(rejected(&mut hub).await.contains("the browser has 2 sockets"));
    assert!((reason(&server, "upstream_per_browser").await - 1.0).abs() < 0.1);
    let mut other = tab(&server).await;
    other.ask(TAB, 1, "/chat/", &[]).await;
    let _conn = backend.conn().await;
    opened(&mut other).await;
    hub.close(TAB, 1, 1000, "").await;
    assert_eq!(conns[0].closed().await.0, 1000);
    conns.clear();
    // Both are over once the upstream is gone.
    let free = async {
        for socket in 4.. {
            hub.ask(TAB, socket, "/chat/", &[]).await;
            let bytes = hub.next().await;
            match crate::support::frame(&bytes) {
                tabmux_core::wire::ServerFrame::Opened { .. } => return,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let serve = async {
        loop {
            conns.push(backend.conn().await);
        }
    };
    tokio::select! {
        () = crate::support::soon("a free place", free) => {}
        () = serve => {}
    }
}

#[tokio::test]
async fn a_user_has_so_many_upstreams_in_all_browsers() {
    let backend = Backend::start().await;
    let config = Config::default().limits(Limits::default().upstream_per_user(1));
    let build = |it: Builder| it.config(config).judge(async |_| Ok(Admitted::user("ann")));
    let server = backend.behind_server(build, |it| it).await;
    let (mut one, mut two) = (tab(&server).await, tab(&server).await);
    one.ask(TAB, 1, "/chat/", &[]).await;
    let _conn = backend.conn().await;
    opened(&mut one).await;
    two.ask(TAB, 1, "/chat/", &[]).await;
    assert!(rejected(&mut two).await.contains("the user has 1 sockets"));
    assert!((reason(&server, "upstream_per_user").await - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn a_route_has_so_many_sockets() {
    let backend = Backend::start().await;
    let server = backend.behind_route(|route| route.sockets(1)).await;
    let mut hub = tab(&server).await;
    hub.ask(TAB, 1, "/chat/", &[]).await;
    let _conn = backend.conn().await;
    opened(&mut hub).await;
    hub.ask(TAB, 2, "/chat/", &[]).await;
    assert!(rejected(&mut hub).await.contains("this path has 1 sockets"));
    let name = "tabmux_route_refused_total{route=\"/chat/\",reason=\"route_sockets\"}";
    assert!((metric(server.address, name).await - 1.0).abs() < 0.1);
}

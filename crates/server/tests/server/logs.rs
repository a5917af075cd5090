//! What any peer can cause is not told each time.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tabmux_server::{
    Ctx, Decision, Message, OpenRequest, Server, SocketHandler, testing::TestServer,
};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// Counts the lines of a log: those for an operator, and all.
#[derive(Default)]
struct Lines {
    told: AtomicUsize,
    all: AtomicUsize,
}

struct Counting(Arc<Lines>);

impl Subscriber for Counting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tabmux_server")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        self.0.all.fetch_add(1, Ordering::Relaxed);
        if *event.metadata().level() <= Level::WARN {
            self.0.told.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Does wrong what its path says.
struct Wrong(bool);

impl SocketHandler for Wrong {
    fn open(&mut self, _: &mut Ctx<'_>, request: &OpenRequest<'_>) -> Decision {
        match request.params().get("what") {
            Some("panics") => panic!("on request"),
            Some("protocol") => Decision::accept_protocol("never offered"),
            Some("code") => Decision::reject_with(1, "no such code"),
            what => {
                self.0 = what == Some("drop");
                Decision::reject("no")
            }
        }
    }

    fn message(&mut self, _: &mut Ctx<'_>, _: Message<'_>) {}
}

impl Drop for Wrong {
    fn drop(&mut self) {
        assert!(!self.0, "on request");
    }
}

fn factory() -> Wrong {
    panic!("on request")
}

#[test]
fn what_handlers_do_wrong_for_a_peer_again_and_again_is_told_once_a_minute() {
    let lines = Arc::<Lines>::default();
    tracing::subscriber::with_default(Counting(Arc::clone(&lines)), || {
        let builder = Server::builder().socket("/wrong/{what}", || Wrong(false));
        let mut server = TestServer::new(builder.socket("/factory", factory)).unwrap();
        for round in 0..20 {
            for path in
                ["/wrong/panics", "/wrong/protocol", "/wrong/code", "/wrong/drop", "/factory"]
            {
                let socket = server.open(&format!("{path}?{round}"));
                assert!(!server.heard(socket).is_empty());
            }
        }
    });
    // Another test may have done the same within the minute.
    let [told, all] = [&lines.told, &lines.all].map(|count| count.load(Ordering::Relaxed));
    assert!(told <= 5 && all >= 100, "{told} of {all} lines");
}

//! A handler that sends a notification to every tab of this browser.

use serde_json::json;

use tabmux_server::{Ctx, Message, SocketHandler};

/// Largest number of characters in one notification.
const LONGEST: usize = 200;

pub(super) struct Notify;

impl SocketHandler for Notify {
    fn message(&mut self, ctx: &mut Ctx<'_>, message: Message<'_>) {
        let told = match message {
            Message::Text(text) if text.chars().count() <= LONGEST => {
                let from = ctx.tab().to_string();
                let told = json!({ "kind": "notification", "text": text, "from": from });
                ctx.broadcast_text(&told.to_string())
            }
            Message::Text(_) | Message::Binary(_) => {
                let message = format!("send text of at most {LONGEST} characters");
                ctx.send_text(&json!({ "kind": "error", "message": message }).to_string())
            }
        };
        if let Err(error) = told {
            ctx.close(1013, &error.to_string());
        }
    }
}

//! One tab in one room.

use serde_json::json;
use tabmux_server::{Message, Opening, OwnedMessage, ServerHandle};

use crate::database::{Database, Note};

/// The longest note.
const LONGEST: usize = 1_000;

/// Serves a tab that wants to see a room.
pub(crate) async fn run(opening: Opening, database: Database) {
    let Some(user) = opening.user().map(str::to_owned) else {
        return opening.reject("log in first");
    };
    let Some(room) = opening.param("id").and_then(|id| id.parse::<u32>().ok()) else {
        return opening.reject("a room has a number, as in /room/7");
    };
    let Ok(notes) = database.notes(room).await else {
        return opening.reject("the database is away");
    };
    let server = opening.server();
    let mut socket = opening.accept();
    for note in notes {
        if socket.send(text(&note)).await.is_err() {
            return;
        }
    }
    while let Some(message) = socket.next().await {
        let OwnedMessage::Text(note) = message else {
            return socket.close(1003, "a note is text");
        };
        if note.len() > LONGEST {
            return socket.close(1009, "a note has 1,000 bytes at most");
        }
        let note = Note { author: user.clone(), text: note };
        match database.add(room, note).await {
            Ok(note) => publish(&server, room, &note).await,
            // The page may send it again on another socket.
            Err(_) => return socket.close(1013, "the note was not stored"),
        }
    }
}

/// Tells all who are in the room. Those that are not reached read it from the database.
async fn publish(server: &ServerHandle, room: u32, note: &Note) {
    let published = server.publish(&format!("room:{room}"), Message::Text(&text(note))).await;
    if let Err(error) = published {
        eprintln!("a note of room {room} was stored and not published: {error}");
    }
}

fn text(Note { author, text }: &Note) -> String {
    json!({ "author": author, "text": text }).to_string()
}

//! One tab in one room.

use serde_json::json;
use tabmux_server::{Message, Opening, OwnedMessage, ServerHandle};

use crate::database::{Database, Note};

/// Largest number of characters in a note.
const LONGEST: usize = 1_000;

/// Serves one tab: sends it the newest notes of the room, and then stores what it writes.
///
/// A page subscribes to the topic of the room *before* it opens this socket. A note that is stored
/// before the notes are read here is among them, and a note that is stored later is published
/// later, when the page is subscribed. So the page misses none. Some notes come both ways: the
/// page knows them by their `id`.
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
        match database.add(room, user.clone(), note).await {
            Ok(note) => publish(&server, room, &note).await,
            // The page may send it again on another socket.
            Err(_) => return socket.close(1013, "the note was not stored"),
        }
    }
}

/// Publishes a stored note to all pages in the room. A page that misses the publication gets a gap,
/// and reads the notes from the database again.
async fn publish(server: &ServerHandle, room: u32, note: &Note) {
    let published = server.publish(&format!("room:{room}"), Message::Text(&text(note))).await;
    if let Err(error) = published {
        eprintln!("a note of room {room} was stored and not published: {error}");
    }
}

fn text(Note { id, author, text }: &Note) -> String {
    json!({ "id": id, "author": author, "text": text }).to_string()
}

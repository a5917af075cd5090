//! Log-ins and notes, in SQLite.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Connection, OptionalExtension, Result};
use tokio::task::spawn_blocking;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS session (id TEXT PRIMARY KEY, user TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS note
        (id INTEGER PRIMARY KEY, room INTEGER NOT NULL, author TEXT NOT NULL, text TEXT NOT NULL)
        STRICT;
    CREATE INDEX IF NOT EXISTS note_room ON note (room, id);
";

/// The newest notes of a room that are shown.
const SHOWN: u32 = 50;

/// The database. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Database(Arc<Mutex<Connection>>);

/// A note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) author: String,
    pub(crate) text: String,
}

impl Database {
    /// Opens a file, and makes what is missing.
    ///
    /// # Errors
    /// When it cannot be opened, or is none of a database.
    pub fn open(file: &Path) -> Result<Self> {
        let connection = Connection::open(file)?;
        connection.execute_batch(TABLES)?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Begins a session of a user; its secret id.
    pub(crate) async fn log_in(&self, user: String) -> Result<String> {
        let mut secret = [0_u8; 16];
        getrandom::fill(&mut secret)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let id = secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let row = (id.clone(), user);
        self.run(|db| db.execute("INSERT INTO session (id, user) VALUES (?1, ?2)", row)).await?;
        Ok(id)
    }

    /// Ends a session; whose it was.
    pub(crate) async fn log_out(&self, session: &str) -> Result<Option<String>> {
        let row = (session.to_owned(),);
        let sql = "DELETE FROM session WHERE id = ?1 RETURNING user";
        self.run(|db| db.query_row(sql, row, |row| row.get(0)).optional()).await
    }

    /// Whose a session is.
    pub(crate) async fn user_of(&self, session: &str) -> Result<Option<String>> {
        let row = (session.to_owned(),);
        let sql = "SELECT user FROM session WHERE id = ?1";
        self.run(|db| db.query_row(sql, row, |row| row.get(0)).optional()).await
    }

    /// Stores a note.
    pub(crate) async fn add(&self, room: u32, note: Note) -> Result<Note> {
        self.run(move |db| {
            let sql = "INSERT INTO note (room, author, text) VALUES (?1, ?2, ?3)";
            db.execute(sql, (room, &note.author, &note.text))?;
            Ok(note)
        })
        .await
    }

    /// The newest notes of a room, in their order.
    pub(crate) async fn notes(&self, room: u32) -> Result<Vec<Note>> {
        self.run(move |db| {
            let mut query = db.prepare(
                "SELECT author, text FROM note WHERE room = ?1 ORDER BY id DESC LIMIT ?2",
            )?;
            let notes = query.query_map((room, SHOWN), |row| {
                Ok(Note { author: row.get(0)?, text: row.get(1)? })
            })?;
            let mut notes = notes.collect::<Result<Vec<_>>>()?;
            notes.reverse();
            Ok(notes)
        })
        .await
    }

    /// A thread that may block does it, one at a time.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let connection = Arc::clone(&self.0);
        let work = move || work(&connection.lock().unwrap_or_else(PoisonError::into_inner));
        let done = spawn_blocking(work).await;
        done.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?
    }
}
